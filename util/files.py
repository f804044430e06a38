"""Files and folders that appear whole or not at all, locks, and digests: each in one way for the whole program.

What is being made lies beside its place as `.<name>.partial` and is renamed when complete, so that a reader finds the
old or the new, never a part. A folder that is replaced lies aside as `.<name>.replaced` for that moment. What a killed
run leaves is hidden, never taken for the thing itself, and cleared away or overwritten by the next run.
"""

import errno
import hashlib
import json
import logging
import os
import shutil
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from util.errors import DissectionError, shorten

log = logging.getLogger(__name__)

DISK_FULL = "the disk is full; free some space and run the same command again"


def beside(path, word):
    """The hidden neighbour of a file or folder in which it is made, set aside or locked."""
    return path.with_name(f".{path.name}.{word}")


@contextmanager
def explained(path):
    """Turn the operating system's refusal to write path into a DissectionError that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            advice = DISK_FULL
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
    partial = beside(path, f"{os.getpid()}.partial" if shared else "partial")
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
            sync(partial)
            os.replace(partial, path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


def replace_text(path, text):
    """Write text to path (UTF-8), whole or not at all. See replacing."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def sync(path):
    """Have the system bring a file's content to the disk, so that a rename cannot overtake it in a power cut."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def moved_aside(path):
    """Move a file into a folder `earlier` beside it, under a name that is free there. Returns its new path."""
    place, number = path.parent / "earlier" / path.name, 1
    with explained(place):
        place.parent.mkdir(exist_ok=True)
        while place.exists():
            number += 1
            place = place.with_name(f"{path.stem} ({number}){path.suffix}")
        if path.exists():
            os.replace(path, place)
    return place


@contextmanager
def replacing_folder(folder):
    """Build a folder beside its place, then rename it; what stands there is replaced. Yields the Path to build in.

    After an exception what stood at folder is untouched, and nothing is left beside it. Raises DissectionError when it
    cannot be written or the disk is full.
    """
    partial, replaced = beside(folder, "partial"), beside(folder, "replaced")
    with explained(folder):
        try:
            partial.mkdir(parents=True)
            yield partial
            if folder.exists():
                folder.rename(replaced)
            partial.rename(folder)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            if replaced.exists() and not folder.exists():
                replaced.rename(folder)
            raise
        finally:
            if folder.exists():
                shutil.rmtree(replaced, ignore_errors=True)


def clear_leftovers(folder):
    """Remove what a killed run left beside a folder, and put back what it was replacing at that very moment."""
    replaced = beside(folder, "replaced")
    with explained(folder):
        if replaced.exists() and not (folder.exists() and any(folder.iterdir())):
            if folder.exists():
                folder.rmdir()
            replaced.rename(folder)
        for leftover in (beside(folder, "partial"), replaced):
            if leftover.exists():
                log.info("removing %s, left over from a run that was stopped", leftover)
                shutil.rmtree(leftover)


def read_json(path):
    """What a JSON file holds. Raises ValueError for what is no JSON, and OSError."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


class JsonFacts:
    """Facts by name that somebody else brings, in a JSON file.

    path: of the file. version: one of another is refused. of_json: function that makes a fact of its JSON value and
    raises one of NO_FACT for what is none. otherwise: what happens without the file.
    """

    NO_FACT = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError)

    def __init__(self, path, version, of_json, otherwise):
        self.path, self.version, self.of_json, self.otherwise = Path(path), version, of_json, otherwise

    def read(self):
        """{name: fact}, empty without a file. Raises DissectionError for one that cannot be used."""
        try:
            content = read_json(self.path)
            if content["version"] != self.version:
                raise ValueError(f"it is of version {content['version']!r}, and this program reads {self.version}")
            return {name: self.of_json(value) for name, value in content["facts"].items()}
        except FileNotFoundError:
            return {}
        except (OSError, *self.NO_FACT) as error:
            message = f"{self.path} cannot be used ({_reason(error)}): mend it or delete it, then {self.otherwise}"
            raise DissectionError(message) from error

    def write(self, facts):
        replace_text(self.path, json.dumps({"version": self.version, "facts": facts}))


def _reason(error):
    return shorten(f"{type(error).__name__}: {error}".removeprefix("ValueError: "))


# ----------------------------------------------------------------------------------------------------------- locks


@contextmanager
def alone(path, refusal, timeout=0):
    """Keep other runs off what lies, or is to lie, at path while the block lasts; a killed run frees it by ending.

    path: pathlib.Path. refusal: what to say when another run is at it. timeout: seconds to wait before that. Raises
    DissectionError.
    """
    place = beside(path, "lock")
    with explained(path):
        if path.parent.exists() and not path.parent.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path.parent))
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(place, timeout=timeout)
        try:
            lock.acquire()
        except Timeout:
            raise DissectionError(refusal) from None
    try:
        yield
    finally:
        place.unlink(missing_ok=True)
        lock.release()


def wait_until_free(path):
    """Return when no run holds path (see alone), at once when none does."""
    place = beside(path, "lock")
    if not place.exists():
        return
    lock = FileLock(place)
    with explained(path):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.info("another run is making %s: waiting for it", path)
            lock.acquire()
        lock.release()


# --------------------------------------------------------------------------------------------------------- digests


def digest(content):
    """Hex sha256 of bytes, or of the content of a file given as pathlib.Path."""
    if isinstance(content, Path):
        with open(content, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    return hashlib.sha256(content).hexdigest()


def fingerprint(value):
    """Digest of a JSON value; the order of keys does not matter."""
    return digest(json.dumps(value, sort_keys=True).encode())


def fingerprint_of_parts(parts, whole=list):
    """fingerprint of a list, or of a dict whose keys ascend, that comes in parts: no text of the whole is made.

    parts: iterable of lists or dicts. whole: list or dict, which they are.
    """
    begin, end = json.dumps(whole())
    hashed, between = hashlib.sha256(begin.encode()), ""
    for part in filter(None, parts):
        hashed.update(f"{between}{json.dumps(part, sort_keys=True)[1:-1]}".encode())
        between = ", "
    hashed.update(end.encode())
    return hashed.hexdigest()
