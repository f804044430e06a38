"""Global bias of the units of a layer (method.md §5): peaks of the maps, probabilities, verdicts."""

from dataclasses import dataclass

import numpy as np

from method.probability import bias_threshold, group_probabilities
from util.errors import DissectionError

UNBIASED = "unbiased"
_BOUNDS = ("p_min", "p_max")
_UNITS_AT_ONCE = 128  # ranked together, which bounds the memory of the probabilities


class Peaks:
    """The greatest value of every map, and the least of every unit: a consumer of a network's pass.

    count: number of images. peaks: float32 (count, U), lowest: float32 (U,), once a batch was seen.
    """

    def __init__(self, count, units):
        self.peaks, self.lowest = np.empty((count, units), np.float32), np.full(units, np.inf, np.float32)

    def add(self, batch):
        self.peaks[batch.images] = batch.maps.max(axis=(2, 3))
        self.lowest = np.minimum(self.lowest, batch.maps.min(axis=(0, 2, 3)))

    def merge(self, ranks, seen):
        """Put together what the processes of a run have seen, each its share. ranks: util.ranks.Ranks. seen: slice of
        the images, in the order of the ranks.
        """
        found = ranks.gathered((self.peaks[seen], self.lowest))
        if found is not None:
            self.peaks = np.concatenate([peaks for peaks, _ in found])
            self.lowest = np.minimum.reduce([lowest for _, lowest in found])

    def features(self, sizes):
        """BiasFeatures of images that stand group after group. sizes: {subgroup: number of images}."""
        parts = np.split(self.peaks, np.cumsum([*sizes.values()])[:-1])
        return BiasFeatures(dict(zip(sizes, parts, strict=True)), self.lowest, self.peaks.max(axis=0))


@dataclass(frozen=True)
class BiasFeatures:
    """What is kept of a layer's maps over the images of one global concept: `<layer>_model_bias(<concept>).npz`.

    groups: {subgroup: float32 (n_g, U)}, p_u(x), the greatest value of each map, images in the order of their names.
    p_min, p_max: float32 (U,), the least and the greatest value of the unit's maps over all of the concept's images.
    """

    groups: dict
    p_min: np.ndarray
    p_max: np.ndarray

    def arrays(self):
        """One array per subgroup, and p_min and p_max: {name: array}."""
        return {**self.groups, "p_min": self.p_min, "p_max": self.p_max}

    @classmethod
    def of_arrays(cls, arrays, source):
        """The inverse of arrays(). source: where they come from, for the DissectionError when bounds are missing."""
        groups = {name: array for name, array in arrays.items() if name not in _BOUNDS}
        if len(groups) + len(_BOUNDS) != len(arrays):
            raise DissectionError(f"{source} lacks {' or '.join(_BOUNDS)}: run nl_bias.py with GENERATE=True")
        return cls(groups, *(arrays[name] for name in _BOUNDS))

    def probabilities(self, ties="mean"):
        """P(g|u) of every unit. ties: see method.probability.ranks. Returns float64 (U, G), in the order of groups."""
        sizes = [len(peaks) for peaks in self.groups.values()]
        members = np.repeat(np.arange(len(sizes)), sizes)
        peaks = np.concatenate(list(self.groups.values()))  # (n, U)
        found = np.empty((peaks.shape[1], len(sizes)))
        for start in range(0, len(found), _UNITS_AT_ONCE):
            some = slice(start, start + _UNITS_AT_ONCE)
            of_units = np.ascontiguousarray(peaks[:, some].T)
            found[some] = group_probabilities(of_units, self.p_min[some], self.p_max[some], members, ties)
        return found


@dataclass(frozen=True)
class ConceptBias:
    """The bias of a layer's units on one global concept.

    groups: names of the subgroups. probabilities: float64 (U, G), P(g|u). A unit is biased towards every subgroup whose
    probability reaches the threshold (method.md §5), else unbiased.
    """

    concept: str
    groups: tuple
    probabilities: np.ndarray

    @property
    def threshold(self):
        return bias_threshold(len(self.groups))

    @property
    def biased(self):
        """bool (U, G)."""
        return self.probabilities >= self.threshold

    def counts(self):
        """{subgroup: number of units biased towards it, and UNBIASED: number of the others}."""
        biased = self.biased
        counts = dict(zip(self.groups, biased.sum(axis=0).tolist(), strict=True))
        return {**counts, UNBIASED: int((~biased.any(axis=1)).sum())}

    def verdict(self, unit):
        """`biased : female 0.5731`, subgroups by falling probability, or `unbiased`."""
        towards = np.flatnonzero(self.biased[unit])
        if not len(towards):
            return UNBIASED
        order = towards[np.argsort(-self.probabilities[unit, towards], kind="stable")]
        return "biased : " + ", ".join(f"{self.groups[index]} {self.probabilities[unit, index]:.4f}" for index in order)


def as_dict(biases):
    """{unit: {concept: {subgroup: probability}}} of plain ints, texts and floats. biases: list of ConceptBias."""
    return {
        unit: {bias.concept: dict(zip(bias.groups, bias.probabilities[unit].tolist(), strict=True)) for bias in biases}
        for unit in range(len(biases[0].probabilities))
    }
