"""What was found in the files of a dictionary, kept between runs, so that an unchanged file is decoded only once.

A file is recognised by its size, times and inode; its content decides everything else, so this only saves the reading.
"""

import json
import os
import stat
import threading
import time
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dictionary.images import ImageError, inspect_image, inspect_labels, read_bytes
from util.files import digest
from util.memory import Memory
from util.parallel import ordered_map, progress

# Raise when FileFacts changes its meaning.
_VERSION = 5
CHECKED_AT_ONCE = 32  # rows or files per task of the pool: few enough to balance, enough to pay for the hand-over
_SAVE_SECONDS, _SAVE_FILES = 5, 10_000  # between two transactions: what a kill costs, and what waits in memory


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


IMAGE, MASK, LABELS = "image", "mask", "labels"  # what a file is asked for


def _as_facts(value):
    """FileFacts from a value of the memory."""
    stamp, *others, labels = json.loads(value.decode())
    return FileFacts(tuple(stamp), *others, labels if labels is None else tuple(labels))


def memory_path(root, folder, what):
    """The file in which it is kept what was found about a dictionary. Each root has one of its own in the folder."""
    resolved = Path(root).resolve()
    return Path(folder) / f"{resolved.name}-{digest(str(resolved).encode())[:8]}_{what}.sqlite"


class FileMemory:
    """The facts of the files of one dictionary. To be used in a `with` block, at whose end what is new is written down.

    root: the dictionary's folder. folder: where the memory lies.
    """

    def __init__(self, root, folder):
        self.root = os.fspath(root)
        path = memory_path(root, folder, "files")
        self.memory = Memory(path, _VERSION, "every file of the dictionary is checked again")
        path.with_suffix(".json").unlink(missing_ok=True)  # of earlier versions
        self._new, self._lock, self._saved = {}, threading.Lock(), time.monotonic()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        try:
            self.save()  # also after an error or Ctrl-C: what was checked need not be checked again
        finally:
            self.memory.close()

    def save(self, at_once=True):
        """Write down what is new. at_once: False when that may wait."""
        now = time.monotonic()
        if at_once or len(self._new) >= _SAVE_FILES or now - self._saved >= _SAVE_SECONDS:
            with self._lock:
                new, self._new = self._new, {}
            self.memory.write({key: json.dumps(facts).encode() for key, facts in new.items()})
            self._saved = now

    def facts(self, files):
        """The FileFacts of files, read and decoded where one is new or was changed: list in their order.

        files: list of (path relative to the root, what it is asked for, one of IMAGE, MASK, LABELS). For any thread.
        """
        known = self.memory.read(list({os.fsencode(path) for path, _ in files}))
        return [self._facts(path, kind, known) for path, kind in files]

    def _facts(self, path, kind, known):
        try:
            status = os.stat(f"{self.root}/{path}")
        except FileNotFoundError:
            return FileFacts((), f"{path} is missing")
        except (OSError, ValueError) as error:
            return FileFacts((), f"{path}: {error}")
        if not stat.S_ISREG(status.st_mode):
            return FileFacts((), f"cannot read {path}: it is not a file")
        stamp = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
        key = os.fsencode(path)
        facts = self._new.get(key) or (_as_facts(known[key]) if key in known else None)
        lacks = facts and not facts.error and (
            (kind == MASK and facts.covered < 0) or (kind == LABELS and facts.labels is None)
        )
        if facts is None or facts.stamp != stamp or lacks:
            facts = _inspect(Path(self.root) / path, path, stamp, kind == MASK, kind == LABELS)
            with self._lock:
                self._new[key] = facts
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


class Digests:
    """The digests of the contents of all rows' files, as columns. Of row r those from bounds[r] on: its image's, then
    those of its format's files(row).

    bounds: int64 (N + 1,). digests: uint8 (F, 32), zero throughout where a file cannot be used.
    """

    def __init__(self):
        self._digests, self._bounds = bytearray(), array("q", [0])

    def append(self, facts):
        """Add the files of the next row. facts: list of FileFacts."""
        for of_file in facts:
            self._digests += bytes.fromhex(of_file.digest) or _NONE
        self._bounds.append(len(self._digests) // _LENGTH)

    def of(self, index):
        """The digests of a row's files, its image first: list of hex texts, empty for a file that cannot be used."""
        start, stop = self._bounds[index] * _LENGTH, self._bounds[index + 1] * _LENGTH
        return [as_text(self._digests[place : place + _LENGTH]) for place in range(start, stop, _LENGTH)]

    def image(self, index):
        """The digest of a row's image, hex text, empty where it cannot be used."""
        place = self._bounds[index] * _LENGTH
        return as_text(self._digests[place : place + _LENGTH])

    @property
    def images(self):
        """The digests of all images, uint8 (N, 32)."""
        every = np.frombuffer(self._digests, np.uint8).reshape(-1, _LENGTH)
        return every[np.frombuffer(self._bounds, np.int64)[:-1]]

    def numbered(self):
        """Which of the different images each is: (int64 (N,), numbers by their ascending digests, -1 for one that
        cannot be used; Texts, the digests).
        """
        digests = self.images
        words = digests.view(">u8").astype(np.uint64)  # (N, 4), which ascend as the digests do
        order = np.lexsort(words.T[::-1])
        ordered = words[order]
        new = np.ones(len(order), bool)
        new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
        unusable = not ordered[0].any()  # which come first
        numbers = np.empty(len(order), np.int64)
        numbers[order] = np.cumsum(new) - 1 - unusable
        return numbers, Texts(digests[order[new]][int(unusable) :])


class Texts(Sequence):
    """Digests as hex texts, made when they are asked for. digests: uint8 (K, 32)."""

    def __init__(self, digests):
        self._digests = digests

    def __len__(self):
        return len(self._digests)

    def __getitem__(self, place):
        if isinstance(place, slice):
            return Texts(self._digests[place])
        return as_text(self._digests[place].tobytes())


_LENGTH = 32
_NONE = bytes(_LENGTH)


def as_text(content):
    """A digest as hex text, empty for one of zeros. content: 32 bytes."""
    return content.hex() if any(content) else ""


def check_files(found_format, rows, memory_folder, workers):
    """Read and decode every image and mask of rows once, or recall what was found when they last changed.

    rows: dictionary.rows.Rows. Returns (Digests; list of Problem in the order of rows).
    """
    groups = (rows[start : start + CHECKED_AT_ONCE] for start in range(0, len(rows), CHECKED_AT_ONCE))
    digests, problems, of_masks = Digests(), [], LABELS if found_format.as_labels else MASK
    with FileMemory(found_format.root, memory_folder) as memory:

        def check(group):
            group = list(group)
            files = [(row.image, *found_format.files(row)) if row.image else () for row in group]
            asked = [(path, of_masks if place else IMAGE) for of_row in files for place, path in enumerate(of_row)]
            facts = iter(memory.facts(asked))
            of_rows = [[next(facts) for _ in of_row] for of_row in files]
            return [(row, found, found_format.check(row, found[0], found[1:]) if found else [])
                    for row, found in zip(group, of_rows, strict=True)]  # fmt: skip

        with progress(len(rows), "checking the dictionary", "image") as bar:
            for checked in ordered_map(check, groups, workers):
                for row, found, of_row in checked:
                    digests.append(found or [FileFacts((), None)])
                    found_format.remember(row, found[1:])
                    problems += of_row
                memory.save(at_once=False)
                bar.update(len(checked))
    return digests, problems
