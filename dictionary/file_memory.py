"""What was found in the files of a dictionary, kept between runs, so that an unchanged file is decoded only once.

A file is recognised by its size, times and inode; its content decides everything else, so this only saves the reading.
"""

import os
import stat
from pathlib import Path
from typing import NamedTuple

from dictionary.images import ImageError, inspect_image, inspect_labels, read_bytes
from util.files import JsonMemory, digest
from util.parallel import mapped

# Raise when FileFacts changes its meaning.
_VERSION = 4
CHECKED_AT_ONCE = 32  # rows or files per task of the pool: few enough to balance, enough to pay for the hand-over


class FileFacts(NamedTuple):
    """What is known of one image file.

    stamp: what it is recognised by. error: why it cannot be used, None when it can; the rest holds for usable files.
    digest: of the content, hex. width, height: pixels as a viewer shows it. transparent: it has an alpha channel.
    covered, border: the shares of the picture and of its border that it covers as a mask, -1 where nobody asked.
    labels: the numbers that occur in it as an image of labels, ascending, None where nobody asked.
    """

    stamp: tuple
    error: str | None
    digest: str = ""
    width: int = 0
    height: int = 0
    transparent: bool = False
    covered: float = -1.0
    border: float = -1.0
    labels: tuple | None = None


_TYPES = (tuple, (str, type(None)), str, int, int, bool, (int, float), (int, float), (tuple, type(None)))


def _as_facts(values):
    """FileFacts from a value of the memory. Raises JsonMemory.NO_FACT when it is no such thing."""
    stamp, *others, labels = values
    facts = FileFacts(tuple(stamp), *others, labels if labels is None else tuple(map(int, labels)))
    if not all(isinstance(value, kind) for value, kind in zip(facts, _TYPES, strict=True)):
        raise ValueError(f"no facts of a file: {values}")
    return facts


def memory_path(root, folder, what):
    """The file in which it is kept what was found about a dictionary. Each root has one of its own in the folder."""
    resolved = Path(root).resolve()
    return Path(folder) / f"{resolved.name}-{digest(str(resolved).encode())[:8]}_{what}.json"


class FileMemory:
    """The facts of the files of one dictionary. To be used in a `with` block, at whose end what is new is written down.

    root: the dictionary's folder. folder: where the memory lies.
    """

    def __init__(self, root, folder):
        self.root = Path(root)
        path = memory_path(root, folder, "files")
        self.memory = JsonMemory(path, _VERSION, _as_facts, "every file of the dictionary is checked again")
        self.known, self.is_new = self.memory.read(), False

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if self.is_new:  # also after an error or Ctrl-C: what was checked need not be checked again
            self.memory.write(self.known)

    def facts(self, path, as_mask=False, as_labels=False):
        """The FileFacts of one file, read and decoded when it is new or was changed.

        path: relative to the root. as_mask: whether to know what it covers. as_labels: it is an image of labels, and
        which occur is to be known.
        """
        try:
            status = os.stat(self.root / path)
        except FileNotFoundError:
            return FileFacts((), f"{path} is missing")
        except (OSError, ValueError) as error:
            return FileFacts((), f"{path}: {error}")
        if not stat.S_ISREG(status.st_mode):
            return FileFacts((), f"cannot read {path}: it is not a file")
        stamp = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
        facts = self.known.get(path)
        lacks = facts and not facts.error and ((as_mask and facts.covered < 0) or (as_labels and facts.labels is None))
        if facts is None or facts.stamp != stamp or lacks:
            facts = self.known[path] = _inspect(self.root / path, path, stamp, as_mask, as_labels)
            self.is_new = True
        return facts


def _inspect(file, name, stamp, as_mask, as_labels):
    try:
        content = read_bytes(file)
        if as_labels:
            size, labels = inspect_labels(content, name)
            return FileFacts(stamp, None, digest(content), *size, labels=labels)
        size, transparent, covers = inspect_image(content, name, as_mask)
    except ImageError as error:
        return FileFacts(stamp, str(error).replace(str(file), name))
    return FileFacts(stamp, None, digest(content), *size, transparent, *covers)


def check_files(found_format, rows, memory_folder, workers):
    """Read and decode every image and mask of rows once, or recall what was found when they last changed.

    Returns (digests, problems): relative path -> hex digest of the content, list of Problem in the order of rows.
    """
    groups = [rows[start : start + CHECKED_AT_ONCE] for start in range(0, len(rows), CHECKED_AT_ONCE)]
    digests, problems = {}, []
    with FileMemory(found_format.root, memory_folder) as memory:

        def check(group):
            return [found_format.check(row, memory) for row in group]

        for _, checked in mapped(check, groups, workers, "checking the dictionary", size=len):
            for found, sound in checked:
                problems += found
                digests.update(sound)
    return digests, problems
