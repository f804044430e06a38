"""What every format of a dictionary has in common: its rows, what is wrong with them, and what it need not say."""

import os
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


class Format:
    """What a format does where it does nothing of its own. One has, besides: recognises(root), and, of an object for
    one root, made of (root, categories), read_index(), concepts_of(rows), check(row, memory) and masks(row, grid, view,
    seg_threshold).

    images: which images count in the union of a unit and a concept, see method.tally.IMAGES. by_category: whether an
    image that has no label of a concept's category says nothing of the concept. many_labels: whether there are too many
    masks to keep them. faces: whether it is one of faces, to which photographs can be cropped and of which there may be
    subgroups.
    """

    images, by_category, many_labels, faces = "concept", False, False, True

    def concepts_in(self, row):
        """The names of the concepts that a row carries, once its files have been checked."""
        return row.masks

    def is_labelled(self, row):
        """Whether a row takes part: one without any concept may still tell what a unit's usual activations are."""
        return True

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
        """What decides the masks of a row, as JSON. digests: {path: digest of its content}."""
        return [(name, digests[path]) for name, path in row.masks.items()]


def leaves_root(path):
    """Whether a path relative to a dictionary leads out of it, judged by its words alone: a link inside is its owner's
    business.
    """
    return os.path.isabs(path) or PurePosixPath(os.path.normpath(path)).parts[:1] == ("..",) or "\\" in path
