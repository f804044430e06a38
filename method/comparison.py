"""Shares of units, compared between models over the same resamples of the photographs (method.md §8.5).

A share is that of a layer's units that belong to a group: confirmed detectors of a region, units biased towards a
subgroup. What is said of a difference is about these networks and other photographs of the same kind: neither other
units nor other trainings are drawn.
"""

from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from method.significance import benjamini_hochberg, tail_p_values

_INTERVAL = (2.5, 97.5)  # percentiles: 95 %


def interval(resampled):
    """The 95 % percentile interval. resampled: (..., B), see telling. Returns low, high: float64 (...), NaN without
    resamples.
    """
    resampled = telling(resampled)
    if not resampled.shape[-1]:
        return np.full((2, *resampled.shape[:-1]), np.nan)
    return np.percentile(resampled, _INTERVAL, axis=-1)


def telling(resampled):
    """The resamples that say something: (..., B) without those that hold a NaN, as for lack of a group's images."""
    silent = np.isnan(resampled).any(axis=tuple(range(resampled.ndim - 1)))
    return resampled[..., ~silent]


@dataclass(frozen=True)
class Shares:
    """The share of a layer's units in each of G groups.

    count: int64 (G,), of the units. share, low, high: float64 (G,), 0..1, with its 95 % interval, NaN without
    resamples. resampled: float64 (G, B), the share in each resample, NaN throughout one that says nothing.
    """

    count: np.ndarray
    share: np.ndarray
    low: np.ndarray
    high: np.ndarray
    resampled: np.ndarray

    @classmethod
    def of(cls, members, resampled):
        """members: bool (G, U), which units belong to which group. resampled: bool (G, U, B), the same in each of B
        resamples of the photographs, or float with NaN throughout a resample that says nothing; B may be 0. Raises
        ValueError when the two do not fit each other.
        """
        if members.shape != resampled.shape[:2] or not members.shape[1]:
            raise ValueError(f"members are {members.shape} and resampled {resampled.shape}: expected (G, U), (G, U, B)")
        drawn = resampled.mean(axis=1)
        return cls(members.sum(axis=1), members.mean(axis=1), *interval(drawn), drawn)


@dataclass(frozen=True)
class Difference:
    """The share of one model less that of another, in each of G groups.

    one, other: names. difference: float64 (G,), -1..1. low, high: its 95 % interval. p: two-sided, of no difference. q:
    p after Benjamini and Hochberg over all pairs of models and groups. low to q: float64 (G,), NaN where the two have
    no resamples in common. untrained: float64 (G,), the greatest difference, in either direction, of an untrained twin
    of the one and one of the other, 0 without twins.
    """

    one: str
    other: str
    difference: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray
    untrained: np.ndarray
    q: np.ndarray = field(default_factory=lambda: np.empty(0))

    @property
    def tested(self):
        """Whether the two have resamples in common."""
        return not np.isnan(self.p).all()

    def beyond_chance(self, alpha):
        """Which differences other photographs would show as well, and are not there without training: bool (G,).

        alpha: the largest false discovery rate, None finds none.
        """
        other_photographs = (self.q <= (-1 if alpha is None else alpha)) & ((self.low > 0) | (self.high < 0))
        return other_photographs & (np.abs(self.difference) > self.untrained)


def differences(shares, drawn_from, twins=None):
    """The differences of every pair of models, in the order of the models.

    shares: {name: Shares} of the same G groups. drawn_from: {name: what the resamples were drawn from}, such as the
    fingerprint of a dictionary: where it differs, or the number of resamples does, resample b is not of the same
    photographs in both, and neither interval nor p is given. A resample that says nothing of one is left out for both.
    twins: {name: float64 (T, G)}, the shares of T untrained
    twins; by default none. Returns list of Difference.
    """
    found = []
    for one, other in combinations(shares, 2):
        first, second = shares[one], shares[other]
        paired = drawn_from[one] == drawn_from[other] and first.resampled.shape == second.resampled.shape
        drawn = telling(first.resampled - second.resampled) if paired else np.empty((len(first.share), 0))
        of_twins = [(twins or {}).get(name, np.empty((0, len(first.share)))) for name in (one, other)]
        untrained = np.abs(of_twins[0][:, None] - of_twins[1]).max(axis=(0, 1), initial=0)  # (T, T, G) -> (G,)
        found.append(
            Difference(one, other, first.share - second.share, *interval(drawn), _p_values(drawn), untrained)
        )
    q_values = benjamini_hochberg(np.array([of.p for of in found]))
    return [Difference(**{**vars(of), "q": q}) for of, q in zip(found, q_values, strict=True)]


def _p_values(drawn):
    """How probable resamples on the other side of 0 are, two-sided: of drawn, (G, B), the differences in resamples.

    B resamples alone cannot say less than 2 / (B + 1), which no correction over many pairs survives: where few reach 0,
    the tail of their distribution says how probable it is (see significance.tail_p_values). Returns float64 (G,).
    """
    if not drawn.shape[1]:
        return np.full(len(drawn), np.nan)
    none = np.zeros(len(drawn))
    return np.minimum(2 * np.minimum(tail_p_values(none, drawn), tail_p_values(none, -drawn)), 1)
