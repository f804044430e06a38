"""Do a unit's peaks tell images that show a concept from images that lack it? (method.md §8.6)"""

from dataclasses import dataclass

import numpy as np

from method.rank_sum import Ranking, auc_interval, p_values
from method.significance import benjamini_hochberg

_TOLD_FROM, _TOLD_TO = 0.6, 0.4  # AUC from or up to which a unit tells a concept


@dataclass(frozen=True)
class Presence:
    """How well peaks tell images that show a concept from those that lack it. U units, C concepts.

    auc: float64 (U, C), the share of pairs of such images of one file in which the one that shows it has the higher
    peak, equal peaks counting half; low, high: its 95 % interval; p: two-sided, of the rank sum; q: p after Benjamini
    and Hochberg over all pairs of the layer. All NaN for concepts that were not asked, or that no image shows or lacks.
    showing, lacking: int64 (C,), photographs in the files in which both occur.
    """

    auc: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray
    q: np.ndarray
    showing: np.ndarray
    lacking: np.ndarray

    def tells(self, alpha):
        """Which unit tells which concept. alpha: the largest false discovery rate. Returns bool (U, C)."""
        return (self.q <= alpha) & ((self.auc >= _TOLD_FROM) | (self.auc <= _TOLD_TO))


class Compared:
    """The images among which units may tell concepts, each photograph once (method.md §8.6).

    carries: bool (N, C), which image carries which concept. sources: int (N,), the index file an image comes from:
    files differ in their photographs, so they are not compared with each other. photographs: int (N,), which one a row
    shows, in an order that does not depend on that of the rows; rows of one photograph in one file count once, with the
    concepts of all of them. asked: bool (C,), concepts that images show or lack.
    """

    def __init__(self, carries, sources, photographs, asked):
        rows, carries = _once(carries, sources, photographs)
        sources = np.asarray(sources)[rows]
        files = [np.flatnonzero(sources == source) for source in np.unique(sources)]
        sizes = np.array([carries[file].sum(axis=0) for file in files])  # (files, C)
        others = np.array([[len(file)] for file in files]) - sizes
        self._sizes, self._others = (
            np.where(asked & (sizes > 0) & (others > 0), part, 0) for part in (sizes, others)
        )  # fmt: skip
        self._files = []  # (rows, concepts, which of the rows carry each concept)
        for file, showing in zip(files, self._sizes, strict=True):
            concepts = np.flatnonzero(showing)
            if len(concepts):
                self._files.append((rows[file], concepts, np.ascontiguousarray(carries[np.ix_(file, concepts)].T)))

    def sums(self, peaks):
        """What images with a concept and without it differ by, of some units. peaks: float (u, N), the greatest value
        of each map. Returns float64 (4, u, C): deviation, its variance and third moment, DeLong's variance.
        """
        sums = np.zeros((4, len(peaks), self._sizes.shape[1]))
        for rows, concepts, members in self._files:
            ranking = Ranking(peaks[:, rows])
            for concept, member in zip(concepts, members, strict=True):
                showing = int(member.sum())
                sums[0, :, concept] += ranking.deviation(member)
                sums[1:3, :, concept] += ranking.moments(showing)
                sums[3, :, concept] += ranking.delong(member) * float(showing * (len(member) - showing)) ** 2
        return sums

    def presence(self, sums):
        """Presence of all units. sums: float64 (4, U, C), see sums."""
        pairs = (self._sizes * self._others).sum(axis=0)
        terms = (self._sizes * self._others * (self._sizes + self._others + 1)).sum(axis=0)
        squares = pairs.astype(object) ** 2  # whole numbers that 64 bits do not hold where photographs are many
        with np.errstate(invalid="ignore", divide="ignore"):  # concepts without pairs become NaN
            auc = 0.5 + sums[0] / (2 * pairs)
            chance_variance = terms / (12 * squares).astype(np.float64)
            low, high = auc_interval(auc, sums[3] / squares.astype(np.float64), chance_variance)
        p = np.where(pairs > 0, p_values(*sums[:3]), np.nan)
        showing, lacking = self._sizes.sum(axis=0), self._others.sum(axis=0)
        return Presence(auc, low, high, p, benjamini_hochberg(p), showing, lacking)


def joined(parts):
    """Presence of several sets of concepts that do not overlap, each asked on images of its own; q is of all together.

    parts: list of Presence over the same units and concepts, not empty.
    """
    first, *others = parts
    arrays = {name: values.copy() for name, values in vars(first).items()}
    for other in others:
        asked = other.showing > 0
        for name, values in arrays.items():
            values[..., asked] = getattr(other, name)[..., asked]
    arrays["q"] = benjamini_hochberg(arrays["p"])
    return Presence(**arrays)


def _once(carries, sources, photographs):
    """The first row of every photograph in every file, and what all of its rows there carry: int (n,), bool (n, C)."""
    keys = np.asarray(sources, np.int64) * (np.max(photographs, initial=0) + 1) + photographs
    _, rows, place = np.unique(keys, return_index=True, return_inverse=True)
    merged = np.zeros((len(rows), carries.shape[1]), bool)
    np.logical_or.at(merged, place, carries)
    return rows, merged
