"""What a dissection comes to: each unit's label with what decides whether it counts, and the counts (method.md §8)."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from method.chance import confirmed


class Counts(NamedTuple):
    """Numbers of units, and of distinct labels among detectors and among confirmed ones."""

    detectors: int
    confirmed: int
    unique: int
    confirmed_unique: int


@dataclass(frozen=True)
class Outcome:
    """What is counted of a layer's U units, whatever the cut-offs.

    top_iou: float64 (U,), with the union of IOU_UNION. label: int64 (U,), its concept, -1 for a unit whose IoU is 0
    everywhere. chance_iou, chance_label: the same with the union of all images. q, p_label: float64 (U,), see
    method.chance.Chance. map_size: int64 (2,).
    """

    top_iou: np.ndarray
    label: np.ndarray
    chance_iou: np.ndarray
    chance_label: np.ndarray
    q: np.ndarray
    p_label: np.ndarray
    map_size: np.ndarray

    @classmethod
    def of(cls, tally, chance):
        """tally: Tally. chance: Chance, of the same maps and thresholds."""
        top = tally.tally.max(axis=1)
        label = np.where(top > 0, tally.tally.argmax(axis=1), -1)
        chance_label = chance.label.astype(np.int64)
        return cls(top, label, chance.iou.max(axis=1), chance_label, chance.q, chance.p_label, chance.map_size)

    def detectors(self, score_threshold):
        """Which units are interpretable (method.md §3.5). Returns bool (U,)."""
        return (self.top_iou > max(score_threshold, 0)) & (tuple(self.map_size) != (1, 1))

    def confirmed(self, score_threshold, alpha):
        """Which units are confirmed detectors (method.md §8.3). Returns bool (U,)."""
        return confirmed(self.chance_iou, self.q, self.p_label, self.map_size, score_threshold, alpha)

    def counts(self, score_threshold, alpha):
        detect, stand = self.detectors(score_threshold), self.confirmed(score_threshold, alpha)
        unique = len(set(self.label[detect].tolist()))
        return Counts(int(detect.sum()), int(stand.sum()), unique, len(set(self.chance_label[stand].tolist())))
