"""Global bias of the units of a layer (method.md §5): the saved features, the probabilities, and how they are told."""

import pickle
from dataclasses import dataclass

import numpy as np

from util.artifacts import load_npz
from util.errors import DissectionError
from util.probability import bias_threshold, group_probabilities

UNBIASED = "unbiased"
_BOUNDS = ("p_min", "p_max")
_UNITS_AT_ONCE = 128  # ranked together, which bounds the memory of the probabilities


@dataclass(frozen=True)
class BiasFeatures:
    """What is kept of a layer's maps over the images of one global concept: `<layer>_model_bias(<concept>).npz`.

    groups: {subgroup: float32 (n_g, U)}, p_u(x), the greatest value of each map, images in the order of their names.
    p_min, p_max: float32 (U,), the least and the greatest value of the unit's maps over all of the concept's images.
    """

    groups: dict
    p_min: np.ndarray
    p_max: np.ndarray

    def save(self, file):
        """Write one array per subgroup, and p_min and p_max, to an open binary file."""
        np.savez(file, **self.groups, p_min=self.p_min, p_max=self.p_max)

    @classmethod
    def load(cls, path):
        """Read the file of save(). Raises DissectionError."""
        arrays = load_npz(path)
        if any(name not in arrays for name in _BOUNDS):
            raise DissectionError(f"{path} lacks {' or '.join(_BOUNDS)}: run nl_bias.py with GENERATE=True")
        bounds = [arrays.pop(name) for name in _BOUNDS]
        return cls(arrays, *bounds)

    def probabilities(self):
        """P(g|u) of every unit. Returns float64 (U, G), groups in the order of self.groups."""
        sizes = [len(peaks) for peaks in self.groups.values()]
        members = np.repeat(np.arange(len(sizes)), sizes)
        peaks = np.concatenate(list(self.groups.values()))
        units = range(0, peaks.shape[1], _UNITS_AT_ONCE)
        blocks = [slice(start, start + _UNITS_AT_ONCE) for start in units]
        return np.concatenate(
            [
                group_probabilities(
                    np.ascontiguousarray(peaks[:, block].T), self.p_min[block], self.p_max[block], members
                )
                for block in blocks
            ]
        )


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
    units = len(biases[0].probabilities)
    return {
        unit: {bias.concept: dict(zip(bias.groups, bias.probabilities[unit].tolist(), strict=True)) for bias in biases}
        for unit in range(units)
    }


def write_pickle(content, path):
    """Write plain Python values to `.pkl`. Read them back with pickle.load."""
    with open(path, "wb") as file:
        pickle.dump(content, file)


def write_text(biases, path):
    """Write every unit's probabilities and verdicts as text, in the manner of the hierarchy's file."""
    with open(path, "w", encoding="utf-8") as file:
        for unit in range(len(biases[0].probabilities)):
            file.write(f"Unit : {unit}\n")
            for bias in biases:
                file.write(f"\tConcept : {bias.concept}\n\t{{\n")
                for group, probability in zip(bias.groups, bias.probabilities[unit].tolist(), strict=True):
                    file.write(f"\t\t{group} : {probability}\n")
                file.write(f"\t}}\n\t{bias.verdict(unit)}\n")


def table(bias):
    """One ConceptBias as rows of text: header, then a row per subgroup and one for the unbiased units."""
    counts = bias.counts()
    rows = [(bias.concept, "biased units", "mean probability", "standard deviation")]
    for group, column in zip(bias.groups, bias.probabilities.T, strict=True):
        rows.append((group, str(counts[group]), f"{column.mean():.4f}", f"{column.std():.4f}"))
    return [*rows, (UNBIASED, str(counts[UNBIASED]), "", "")]
