"""A folder that appears whole or not at all, whatever stops the program that makes it.

It is built in a hidden folder beside its place and renamed when complete. What a killed run leaves is hidden too, is
never taken for the folder itself, and is cleared away by the next run.
"""

import errno
import logging
import os
import shutil
from contextlib import contextmanager

from filelock import FileLock, Timeout

from util.errors import DissectionError
from util.files import explained

log = logging.getLogger(__name__)


def _beside(folder):
    """Where a folder lies while it is built, and where the one it replaces lies while they change places."""
    return folder.with_name(f".{folder.name}.partial"), folder.with_name(f".{folder.name}.replaced")


def _lock_of(folder):
    return folder.with_name(f".{folder.name}.lock")


@contextmanager
def sole_maker(folder):
    """Keep other runs from making the same folder while the block lasts. folder: pathlib.Path.

    Raises DissectionError when another run is at it; a killed run frees the lock by ending.
    """
    with explained(folder):
        if folder.parent.exists() and not folder.parent.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder.parent))
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(_lock_of(folder), timeout=1)  # wait_for_maker may hold it for an instant
        try:
            lock.acquire()
        except Timeout:
            raise DissectionError(f"another run is making {folder}: wait for it, or choose another folder") from None
    try:
        yield
    finally:
        _lock_of(folder).unlink(missing_ok=True)
        lock.release()


def wait_for_maker(folder):
    """Return when no run is making the folder, at once when none is."""
    if not _lock_of(folder).exists():
        return
    lock = FileLock(_lock_of(folder))
    with explained(folder):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.info("another run is making %s: waiting for it", folder)
            lock.acquire()
        lock.release()


def clear_leftovers(folder):
    """Remove what a killed run left beside folder, and put back what it was replacing at that very moment."""
    partial, replaced = _beside(folder)
    with explained(folder):
        if replaced.exists() and not (folder.exists() and any(folder.iterdir())):
            if folder.exists():
                folder.rmdir()
            replaced.rename(folder)
        for leftover in (partial, replaced):
            if leftover.exists():
                log.info("removing %s, left over from a run that was stopped", leftover)
                shutil.rmtree(leftover)


@contextmanager
def appearing_whole(folder):
    """Build a folder beside its place, then rename it. folder: pathlib.Path; what stands there is replaced.

    Yields the pathlib.Path to build in. After an exception what stood at folder is untouched, and nothing is left
    beside it. Raises DissectionError when it cannot be written or the disk is full.
    """
    partial, replaced = _beside(folder)
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
