"""Files that appear whole or not at all."""

import errno
import os
from contextlib import contextmanager
from pathlib import Path

from util.errors import DissectionError


@contextmanager
def explained(path):
    """Turn the operating system's refusal to write path into a DissectionError that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            advice = "the disk is full; free some space and run the same command again"
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            advice = "no permission to write there; choose another folder or change its permissions"
        else:
            advice = error.strerror or str(error)
        raise DissectionError(f"cannot write {error.filename or path}: {advice}") from error


@contextmanager
def replacing(path, shared=False):
    """Write a file beside its place, then rename it. Yields the pathlib.Path to write to.

    shared: several runs may do so at once; each then has a file of its own beside the place.
    After an exception the file that stood at path before is untouched, and nothing is left beside it.
    Raises DissectionError when the folder cannot be written or the disk is full.
    """
    path = Path(path)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial" if shared else f"{path.name}.partial")
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
            sync(partial)
            os.replace(partial, path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


def replace_text(path, text, shared=False):
    """Write text to path (UTF-8) so that a reader finds the old or the new content, never a part of it."""
    with replacing(path, shared) as partial:
        partial.write_text(text, encoding="utf-8")


def sync(path):
    """Have the system bring a file's content to the disk, so that a rename cannot overtake it in a power cut."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
