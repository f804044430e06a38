"""What every format of a dictionary has in common: its rows, what is wrong with them, and what it need not say.

A dictionary may have millions of rows. They are kept as columns, and a Row is made when one is asked for.
"""

import marshal
import os
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a dictionary. where: file and line; what: in words; row: image index, None for the whole.

    fatal: the row cannot be used. What is not fatal deserves a look and changes nothing.
    """

    where: str
    what: str
    row: int | None = None
    fatal: bool = True

    def __str__(self):
        return f"{self.where}: {self.what}"


@dataclass(frozen=True)
class Row:
    """One image of the index. image: path relative to the root; where: file and line.

    masks: what the format knows of its masks; in the face format concept -> path. source: which of the format's index
    files it comes from, a number. grid: (rows, columns) of its masks, None where they have the network's.
    """

    index: int
    where: str
    image: str
    masks: dict
    source: int = 0
    grid: tuple | None = None


class Blobs:
    """A column of byte strings in one piece."""

    def __init__(self):
        self._content, self._ends = bytearray(), array("q", [0])

    def append(self, blob):
        self._content += blob
        self._ends.append(len(self._content))

    def __len__(self):
        return len(self._ends) - 1

    def __getitem__(self, place):
        return bytes(memoryview(self._content)[self._ends[place] : self._ends[place + 1]])


class Rows(Sequence):
    """The rows of an index, in order. rows[i] makes a Row, a slice SomeRows.

    sources: uint8 (N,), see Row. mask_bounds: int64 (N + 1,), between which each row's masks stand among those of all.
    mask_names: uint32 (M,), their names, as numbers of names, list of text.
    """

    def __init__(self):
        self._images, self._places, self._masks = Blobs(), Blobs(), Blobs()
        self._sources, self._mask_bounds, self._mask_names = array("B"), array("q", [0]), array("I")
        self._grids, self.names, self._number = array("I"), [], {}
        self._count = 0

    @classmethod
    def of(cls, rows):
        """The same from an iterable of Row."""
        found = cls()
        for row in rows:
            found.append(row)
        return found

    def append(self, row):
        """Add a Row, whose index is how many there are. The values of its masks are plain: texts, numbers, tuples."""
        self._images.append(_bytes(row.image))
        self._places.append(_bytes(row.where))
        self._sources.append(row.source)
        self._grids.extend([side or 0 for side in row.grid] if row.grid else (0, 0))
        for name, value in row.masks.items():
            number = self._number.setdefault(name, len(self.names))
            if number == len(self.names):
                self.names.append(name)
            self._mask_names.append(number)
            self._masks.append(marshal.dumps(value))
        self._mask_bounds.append(len(self._mask_names))
        self._count += 1

    def cut(self, count):
        """Leave the first count rows alone."""
        self._count = min(self._count, count)

    def __len__(self):
        return self._count

    def __getitem__(self, index):
        if isinstance(index, slice):
            return SomeRows(self, np.arange(*index.indices(self._count)))
        index = range(self._count)[index]
        start, stop = self._mask_bounds[index], self._mask_bounds[index + 1]
        masks = {
            self.names[self._mask_names[place]]: marshal.loads(self._masks[place]) for place in range(start, stop)
        }
        grid = self._grids[2 * index], self._grids[2 * index + 1]
        grid = grid if all(grid) else None
        return Row(index, _text(self._places[index]), self.image(index), masks, self._sources[index], grid)

    def image(self, index):
        """The path of a row's image, relative to the root."""
        return _text(self._images[index])

    def repeated(self):
        """The rows whose image stands already in another: list of (row, the first with that image), int, ascending."""
        hashes = np.fromiter((hash(self.image(index)) for index in range(len(self))), np.int64, len(self))
        _, which, count = np.unique(hashes, return_inverse=True, return_counts=True)
        first, found = {}, []
        for index in np.flatnonzero(count[which] > 1).tolist():
            image = self.image(index)
            if image and first.setdefault(image, index) != index:
                found.append((index, first[image]))
        return found

    @property
    def sources(self):
        return np.frombuffer(self._sources, np.uint8)[: self._count]

    @property
    def mask_bounds(self):
        return np.frombuffer(self._mask_bounds, np.int64)[: self._count + 1]

    @property
    def mask_names(self):
        return np.frombuffer(self._mask_names, np.uint32)[: self._mask_bounds[self._count]]


class SomeRows(Sequence):
    """Some of the rows, made when they are asked for. rows: Rows. indices: int (n,), which."""

    def __init__(self, rows, indices):
        self._rows, self.indices = rows, indices

    def __len__(self):
        return len(self.indices)

    def __getitem__(self, place):
        if isinstance(place, slice):
            return SomeRows(self._rows, self.indices[place])
        return self._rows[int(self.indices[place])]


def _bytes(text):
    return text.encode("utf-8", "surrogatepass")


def _text(content):
    return content.decode("utf-8", "surrogatepass")


class Format:
    """What a format does where it does nothing of its own. One has, besides: recognises(root), and, of an object for
    one root, made of (root, categories), read_index(), concepts_of(rows, carried), check(row, image, files) and
    masks(row, grid, view, seg_threshold).

    images: which images count in the union of a unit and a concept, see method.tally.IMAGES. by_category: whether an
    image that has no label of a concept's category says nothing of the concept. many_labels: whether there are too many
    masks to keep them. faces: whether it is one of faces, to which photographs can be cropped and of which there may be
    subgroups. as_labels: whether the files of masks are images of labels.
    """

    as_labels = False
    images, by_category, many_labels, faces = "concept", False, False, True

    def files(self, row):
        """The paths of the files of a row's masks, list of text."""
        return list(row.masks.values())

    def remember(self, row, files):
        """Keep what the format needs of a row's files. files: the FileFacts of files(row). Called in the rows' order,
        once for each.
        """

    def carried(self, rows):
        """Which rows carry which concepts, as columns. rows: Rows.

        Returns (rows, int64 (k,); concepts, int (k,), as numbers of the names; names, list of text).
        """
        return np.repeat(np.arange(len(rows)), np.diff(rows.mask_bounds)), rows.mask_names, rows.names

    def labelled(self, rows):
        """Which rows take part: one without any concept may still tell what a unit's usual activations are. Returns
        bool (N,).
        """
        return np.ones(len(rows), bool)

    def whole(self, row):
        """The names of those that hold for the whole image, of which there are no masks."""
        return ()

    def grid(self, row, grid):
        """The grid on which a row's pixels are counted. grid: (rows, columns) of the network's input."""
        return grid

    def same_rule(self, names):
        """Of which concepts the masks are made in the same way. Returns bool (C, C)."""
        return np.zeros((len(names), len(names)), bool)

    def told(self, concepts):
        """Which concepts a photograph shows or lacks, so that units can tell them (method.md §8.6): bool (C,)."""
        return np.ones(len(concepts), bool)

    def review(self, rows):
        """What the files of all rows tell together, once they have been checked. Returns (list of Problem; list of
        text, lines on what the dictionary holds).
        """
        return [], []

    def identity(self, row, digests):
        """What decides the masks of a row, as JSON. digests: of the contents of files(row), list of text."""
        return list(zip(row.masks, digests, strict=True))

    def numbered(self, row):
        """What beside its files decides which masks a row has, as JSON."""
        return list(row.masks)


def leaves_root(path):
    """Whether a path relative to a dictionary leads out of it, judged by its words alone: a link inside is its owner's
    business.
    """
    leads_up = ".." in path and PurePosixPath(os.path.normpath(path)).parts[:1] == ("..",)
    return os.path.isabs(path) or "\\" in path or leads_up


def stands_already(rows):
    """The problems of rows whose image an earlier one has. rows: Rows. Returns list of Problem."""
    return [
        Problem(row.where, f"{row.image} stands already at {rows[first].where}", row.index)
        for row, first in ((rows[index], first) for index, first in rows.repeated())
    ]


def in_order(problems):
    """Problems of rows in the order of the rows. problems: list of Problem, each with its row."""
    return sorted(problems, key=lambda problem: problem.row)
