"""Do a unit's peaks tell images that show a concept from images that lack it? (method.md §8.6)"""

from dataclasses import dataclass

import numpy as np

from method.rank_sum import Ranking, auc_interval, p_values
from method.significance import benjamini_hochberg

_TOLD_FROM, _TOLD_TO = 0.6, 0.4  # AUC from or up to which a unit tells a concept
_UNITS_AT_ONCE = 32  # sorted together, which bounds the memory


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


def presence(peaks, carries, sources, photographs, asked):
    """Compare peaks of images with and without each concept, within each index file (method.md §8.6).

    peaks: float (N, U), the greatest value of each map. carries: bool (N, C), which image carries which concept.
    sources: int (N,), the index file an image comes from: files differ in their photographs, so they are not compared
    with each other. photographs: (N,) texts, digests; rows of one photograph in one file count once, with the concepts
    of all of them. asked: bool (C,), concepts that images show or lack. Returns Presence.
    """
    rows, carries = _once(carries, sources, photographs)
    sources = np.asarray(sources)[rows]
    files = [np.flatnonzero(sources == source) for source in np.unique(sources)]
    sizes = np.array([carries[file].sum(axis=0) for file in files])  # (files, C)
    others = np.array([[len(file)] for file in files]) - sizes
    sizes, others = (np.where(asked & (sizes > 0) & (others > 0), part, 0) for part in (sizes, others))
    units = peaks.shape[1]
    sums = np.zeros((4, units, carries.shape[1]))  # deviation, its variance and third moment, DeLong's variance
    for start in range(0, units, _UNITS_AT_ONCE):
        some = slice(start, start + _UNITS_AT_ONCE)
        for file, showing, lacking in zip(files, sizes, others, strict=True):
            compared = np.flatnonzero(showing)
            if len(compared):
                ranking = Ranking(np.ascontiguousarray(peaks[rows[file], some].T))
            for concept in compared:
                member = np.ascontiguousarray(carries[file, concept])
                pairs = showing[concept] * lacking[concept]
                sums[0, some, concept] += ranking.deviation(member)
                sums[1:3, some, concept] += ranking.moments(showing[concept])
                sums[3, some, concept] += ranking.delong(member) * pairs**2
    return _of_sums(sums, sizes, others)


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
    _, photographs = np.unique(photographs, return_inverse=True)
    keys = np.stack([np.asarray(sources), photographs], axis=1)
    _, rows, place = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    merged = np.zeros((len(rows), carries.shape[1]), bool)
    np.logical_or.at(merged, place.ravel(), carries)
    return rows, merged


def _of_sums(sums, sizes, others):
    """Presence from what all files add up to. sizes, others: int64 (files, C), 0 where there is nothing to compare."""
    pairs = (sizes * others).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):  # concepts without pairs become NaN
        auc = 0.5 + sums[0] / (2 * pairs)
        chance_variance = (sizes * others * (sizes + others + 1)).sum(axis=0) / (12 * pairs**2)
        low, high = auc_interval(auc, sums[3] / pairs**2, chance_variance)
    p = np.where(pairs > 0, p_values(*sums[:3]), np.nan)
    return Presence(auc, low, high, p, benjamini_hochberg(p), sizes.sum(axis=0), others.sum(axis=0))
