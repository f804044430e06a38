"""Sets of pixels kept as the places where they begin and end, and how many pixels they share.

The pixels of a grid are counted row after row, from 0 to P - 1. A blob of 1,000 pixels is some 40 runs of neighbours in
that count, 160 bytes. What it shares with a mask is the sum over its runs of how many of the mask's pixels lie before
the run's end less those before its begin. All counts are exact integers.
"""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

_SETS_AT_ONCE = 32  # whose pixels are counted up together: few enough for a core's cache


@dataclass(frozen=True)
class Outlines:
    """A sets of pixels on one grid.

    edges: unsigned (E,), of each set the places in ascending order where pixels begin and, by turns, end, the end
    exclusive. Where one run ends another may begin. bounds: int64 (A + 1,), between which each set's edges stand.
    """

    edges: np.ndarray
    bounds: np.ndarray

    @classmethod
    def of(cls, pixels):
        """pixels: bool (A, rows, columns)."""
        count, size = len(pixels), pixels.shape[1] * pixels.shape[2]
        framed = np.zeros((count, size + 2), bool)
        framed[:, 1:-1] = pixels.reshape(count, size)
        places = np.flatnonzero(framed[:, 1:] != framed[:, :-1])
        of_set, edges = np.divmod(places, size + 1)
        return cls.from_lengths(edges.astype(_smallest(size)), np.bincount(of_set, minlength=count))

    @classmethod
    def from_lengths(cls, edges, lengths):
        return cls(edges, np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]))

    @classmethod
    def joined(cls, parts):
        """One after the other. parts: list of Outlines of one grid, not empty."""
        lengths = np.concatenate([part.lengths for part in parts])
        return cls.from_lengths(np.concatenate([part.edges for part in parts]), lengths)

    def __len__(self):
        return len(self.bounds) - 1

    @property
    def lengths(self):
        return np.diff(self.bounds)

    def taken(self, which):
        """Some of the sets. which: int (n,). Returns Outlines of n."""
        lengths = self.lengths[which]
        ends = np.cumsum(lengths)
        shift = np.repeat(self.bounds[:-1][which] - (ends - lengths), lengths)
        return self.from_lengths(self.edges[np.arange(len(shift)) + shift], lengths)

    def part(self, start, stop):
        """The sets start..stop-1."""
        bounds = self.bounds[start : stop + 1]
        return Outlines(self.edges[bounds[0] : bounds[-1]], bounds - bounds[0])

    def pixels(self, size):
        """The sets as pictures. size: P. Returns bool (A, P)."""
        turns = np.zeros((len(self), size + 1), bool)
        turns[np.repeat(np.arange(len(self)), self.lengths), self.edges] = True
        return np.logical_xor.accumulate(turns, axis=1)[:, :-1]

    def each(self):
        """The edges of each set as bytes, which tell equal sets, list of A."""
        return [self.edges[start:stop].tobytes() for start, stop in zip(self.bounds, self.bounds[1:], strict=False)]

    def total(self, before):
        """Per set, the sum over its pixels. before: int64 (..., E), at each edge the sum over all pixels before it.

        Returns int64 (..., A).
        """
        runs = before[..., 1::2] - before[..., ::2]
        summed = np.zeros((*runs.shape[:-1], runs.shape[-1] + 1), np.int64)
        np.cumsum(runs, axis=-1, out=summed[..., 1:])
        return np.diff(summed[..., self.bounds // 2])

    def areas(self):
        """Number of pixels. Returns int64 (A,)."""
        return self.total(self.edges.astype(np.int64))

    def heights(self, size):
        """How many of the sets each pixel lies in. size: P. Returns int64 (P,)."""
        begins, ends = (np.bincount(edges, minlength=size + 1) for edges in (self.edges[::2], self.edges[1::2]))
        return np.cumsum(begins - ends)[:size]

    def within(self, kept):
        """The same sets on some pixels alone, counted anew. kept: bool (P,). Returns Outlines."""
        edges = counted_up(kept)[self.edges]
        touched = np.repeat(edges[::2] < edges[1::2], 2)  # the runs of which a pixel is left
        ends = np.concatenate([[0], np.cumsum(touched)])
        return Outlines(edges[touched], ends[self.bounds])

    def matrix(self, size):
        """int32 sparse (A, P + 1): times what stands before each place, it sums over each set's pixels."""
        signs = np.tile(np.array([-1, 1], np.int32), len(self.edges) // 2)
        return csr_array((signs, self.edges.astype(np.int32), self.bounds), (len(self), size + 1))

    def cumulative(self, size):
        """How many of each set's pixels lie before each place. size: P. Returns int32 (P + 1, A)."""
        counts = np.empty((size + 1, len(self)), np.int32)
        for start in range(0, len(self), _SETS_AT_ONCE):
            some = self.part(start, min(start + _SETS_AT_ONCE, len(self)))
            steps = np.zeros((len(some), size + 2), np.int32)
            of_set = np.repeat(np.arange(len(some)), some.lengths // 2)
            begins, ends = some.edges.reshape(-1, 2).T.astype(np.int64) + 1
            steps[of_set, begins] += 1  # no set has two runs with one begin, nor with one end
            steps[of_set, ends] -= 1
            # The first sum says of each pixel, one place further, whether it lies in the set; the second counts those.
            np.cumsum(steps, axis=1, out=steps)
            np.cumsum(steps, axis=1, out=steps)
            counts[:, start : start + len(some)] = steps[:, :-1].T
        return counts


def _smallest(size):
    """The smallest dtype for places 0..size."""
    return np.uint16 if size < 1 << 16 else np.uint32


def counted_up(values):
    """The sum of the values before each place. values: (P,). Returns int64 (P + 1,)."""
    return np.concatenate([[0], np.cumsum(values, dtype=np.int64)])
