"""What stands behind the findings on a layer: chance, presence, plain labels and untrained twins (method.md §8)."""

from dataclasses import dataclass, field, fields

import numpy as np

from method.chance import Chance, confirmed
from method.comparison import Shares
from method.plain_label import plain_labels
from method.presence import Presence

_OF_PRESENCE = "auc_"  # before the names of Presence's arrays in the file, but for auc itself


@dataclass(frozen=True)
class Twins:
    """The untrained twins of a layer: what `<layer>_twins.npz` holds. T twins, U units.

    seeds: int64 (T,). built: str (T,), how each was made. top_iou: float64 (T, U), of the concept top_concept, int64
    (T, U). chance_iou, q, p_label: float64 (T, U), see Chance. map_size: int64 (2,). formula_unit: int64 (F,), those of
    the first twin for which a formula was sought, formula_holds: bool (F,), whether it holds, see Formulas.
    """

    seeds: np.ndarray
    built: np.ndarray
    top_iou: np.ndarray
    top_concept: np.ndarray
    chance_iou: np.ndarray
    q: np.ndarray
    p_label: np.ndarray
    map_size: np.ndarray
    formula_unit: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    formula_holds: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))

    @classmethod
    def of(cls, units, map_size, twins, formulas=()):
        """twins: list of (seed, how it was built, Tally, Chance), formulas: of Formulas of the first, perhaps empty."""

        def rows(values, dtype=np.float64):
            return np.array([*values], dtype).reshape(len(twins), units)

        return cls(
            seeds=np.array([seed for seed, *_ in twins], np.int64),
            built=np.array([built for _, built, *_ in twins], str),
            top_iou=rows(tally.tally.max(axis=1) for *_, tally, _ in twins),
            top_concept=rows((tally.tally.argmax(axis=1) for *_, tally, _ in twins), np.int64),
            chance_iou=rows(chance.iou.max(axis=1) for *_, chance in twins),
            q=rows(chance.q for *_, chance in twins),
            p_label=rows(chance.p_label for *_, chance in twins),
            map_size=np.array(map_size),
            **{f"formula_{name}": getattr(of, name) for of in formulas for name in ("unit", "holds")},
        )


class Evidence:
    """What stands behind the findings on a layer. chance: Chance. presence: Presence. wider: int (C,), see
    plain_label.wider_concepts. twins: Twins, None where they are not known. score_threshold: of interpretable units.
    alpha: the share of false ones tolerated, None confirms nothing.
    """

    def __init__(self, chance, presence, wider, twins, score_threshold, alpha):
        self.chance, self.presence, self.wider, self.twins = chance, presence, wider, twins
        self.score_threshold, self.alpha = score_threshold, alpha
        self.confirmed = chance.confirmed(score_threshold, alpha)
        self.tells = presence.tells(-1 if alpha is None else alpha)  # bool (U, C)
        # int (U,), -1 for none; what was not judged is not said to tell nothing.
        self.plain = chance.label if alpha is None else plain_labels(chance.label, wider, self.tells)

    @classmethod
    def of_arrays(cls, arrays, twins, score_threshold, alpha):
        """From what arrays_of has put together. twins: Twins or None."""
        chance = Chance(**{field.name: arrays[field.name] for field in fields(Chance)})
        presence = Presence(**{field.name: arrays[_in_file(field.name)] for field in fields(Presence)})
        return cls(chance, presence, arrays["wider"], twins, score_threshold, alpha)

    @property
    def judged(self):
        """Whether anything could be confirmed: neither PERMUTATIONS nor ALPHA was left out."""
        return self.alpha is not None and not np.isnan(self.chance.q).all()

    @property
    def confirmed_unique(self):
        """Number of distinct top concepts among the confirmed detectors."""
        return len(set(self.chance.label[self.confirmed].tolist()))

    @property
    def twins_confirmed(self):
        """Which units of the twins are confirmed detectors: bool (T, U)."""
        of = self.twins
        return confirmed(of.chance_iou, of.q, of.p_label, of.map_size, self.score_threshold, self.alpha)

    def twin_formulas(self):
        """Of the first twin's detectors for which a formula was sought: (how many, of how many it holds)."""
        twins = self.twins
        if twins is None or not len(twins.formula_unit):
            return 0, 0
        detects = twins.top_iou[0, twins.formula_unit] > self.score_threshold
        return int(detects.sum()), int(twins.formula_holds[detects].sum())

    def shares(self, groups_of, groups):
        """The share of the layer's units that are confirmed detectors of each group of concepts, such as a region.

        groups_of: C texts, the group of each concept. groups: G of them. In a resample the concept and its IoU are
        those of the resample, while significance (q and p_label) stays as it is: dealing the masks out anew in every
        resample would cost as much again B times. Returns comparison.Shares.
        """
        chance = self.chance
        stand = confirmed(
            chance.boot_iou.T, chance.q, chance.p_label, chance.map_size, self.score_threshold, self.alpha
        ).T  # (U, B)
        return Shares.of(
            in_groups(chance.label, self.confirmed, groups_of, groups),
            in_groups(chance.boot_concept, stand, groups_of, groups),
        )

    def twin_shares(self, groups_of, groups):
        """The same share of each untrained twin: float64 (T, G)."""
        if self.twins is None:
            return np.zeros((0, len(groups)))
        return in_groups(self.twins.top_concept, self.twins_confirmed, groups_of, groups).mean(axis=2).T

    def twin_counts(self):
        """Of each twin (detectors, confirmed ones, distinct top concepts of either): list of T tuples of four."""
        twins = self.twins
        if twins is None:
            return []
        if tuple(twins.map_size) == (1, 1):
            return [(0, 0, 0, 0)] * len(twins.seeds)
        stand, detectors = self.twins_confirmed, twins.top_iou > self.score_threshold
        return [
            (int(of.sum()), int(standing.sum()), len(set(top[of].tolist())), len(set(top[standing].tolist())))
            for of, standing, top in zip(detectors, stand, twins.top_concept, strict=True)
        ]


def in_groups(top, counts, groups_of, groups):
    """Which units belong to which group by their top concept.

    top: int (...), index of the concept, -1 for none. counts: bool (...), which of them count. groups_of: C texts.
    groups: G of them. Returns bool (G, ...).
    """
    of_units = np.array([*groups_of, ""])[top]
    return np.stack([(of_units == group) & counts for group in groups])


def arrays_of(chance, presence, wider, photographs):
    """What `<layer>_chance.npz` holds: {name: array}. photographs: bytes (N,), digests of the rows' photographs,
    which take a quarter of the room of texts; earlier versions wrote those, and astype(str) reads both.
    """
    of_presence = {_in_file(field.name): getattr(presence, field.name) for field in fields(Presence)}
    return {**vars(chance), **of_presence, "wider": wider, "photographs": photographs}


def _in_file(name):
    return name if name == "auc" else _OF_PRESENCE + name
