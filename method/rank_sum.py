"""Rank sums: how well peaks tell groups of images apart, and whether chance would as well (method.md §8.6 and §8.9).

All counts are whole numbers: positions are doubled, so that equal peaks, which share the mean of their positions, keep
to them. U is a number of units here, never the statistic of Mann and Whitney.
"""

import numpy as np
from scipy.special import gammainc, gammaincc, ndtr

from method.accuracy import wilson

_SYMMETRIC = 1e-3  # a skewness below which the normal distribution serves: at z = 5 it moves a p-value by 2 %


class Ranking:
    """The values of each unit in ascending order, equal ones in runs: sorted once, for any number of groups.

    values: (U, n), without NaN.
    """

    def __init__(self, values):
        self.units, self.count = values.shape
        self._order = np.argsort(values, axis=1)
        ascending = np.take_along_axis(values, self._order, axis=1)
        begins = np.ones(values.shape, bool)
        begins[:, 1:] = ascending[:, 1:] != ascending[:, :-1]
        self._starts = np.flatnonzero(begins)  # of the runs of all units, one unit after the other
        self._unit, below = np.divmod(self._starts, self.count)
        self._first = np.searchsorted(self._starts, np.arange(self.units) * self.count)  # run of each unit
        self._length = np.diff(self._starts, append=values.size)
        self._below = 2 * below + self._length  # twice the images below a run, its own counting half
        centred = (self._below - self.count).astype(np.float64)  # twice their position less the mean position
        self._squares, self._cubes = (self._by_unit(self._length * centred**power) for power in (2, 3))

    def _by_unit(self, of_runs):
        return np.add.reduceat(of_runs, self._first)

    def _members_of_runs(self, member):
        members = member.view(np.uint8)[self._order].ravel()
        return np.add.reduceat(members, self._starts, dtype=np.int64)

    def deviation(self, member):
        """Twice how far the rank sum of a group lies from its mean under chance: Σ_x∈g Σ_y∉g sign(p(x) - p(y)).

        member: bool (n,), images of the group. Returns int64 (U,).
        """
        return self._by_unit(self._members_of_runs(member) * (self._below - self.count))

    def delong(self, member):
        """The variance of the AUC of a group against the rest (DeLong et al., Biometrics 1988). member: bool (n,).

        Every image's placement is its share of the other side's images that lie below; the variances of the two sides'
        mean placements add up. Returns float64 (U,), NaN where a side has fewer than two images.
        """
        n_in = int(member.sum())
        n_out = self.count - n_in
        if min(n_in, n_out) < 2:
            return np.full(self.units, np.nan)
        inside = self._members_of_runs(member)
        below_in = 2 * (np.cumsum(inside) - self._unit * n_in) - inside
        of_members = self._variance(inside, self._below - below_in, n_in) / (2 * n_out) ** 2
        of_others = self._variance(self._length - inside, below_in, n_out) / (2 * n_in) ** 2
        return of_members / n_in + of_others / n_out

    def _variance(self, times, values, total):
        """The variance of the values of runs that occur so many times, total times in each unit. Returns (U,)."""
        sums, squares = self._by_unit(times * values), self._by_unit(times * values.astype(np.float64) ** 2)
        return (squares - sums.astype(np.float64) ** 2 / total) / (total - 1)

    def moments(self, size):
        """Variance and third central moment of deviation when chance deals out a group of some size, with ties.

        Returns float64 (U,) twice.
        """
        n, rest = self.count, self.count - size
        variance = size * rest / max(n * (n - 1), 1) * self._squares
        return variance, variance * (rest - size) / max(n - 2, 1) * self._cubes / np.maximum(self._squares, 1)


def p_values(deviation, variance, third):
    """Two-sided p-values of sums whose variance and third central moment under chance are known. Arrays of one shape.

    By the normal distribution, skewed where the sum is (Pearson's type III). Worked: where a unit is active on 5 of
    2,000 images and two of these fall into a group of 50, z is 5.4 and the normal distribution says 8e-8; counting says
    0.006, and this 0.007. Without ties, or with halves, nothing is skewed. Twice the smaller tail, at most 1. Returns
    float64, 1 where the variance is 0: nothing can be seen there.
    """
    seen = variance > 0
    deviation, variance, third = (np.where(seen, values, other) for values, other in
                                  ((deviation, 0), (variance, 1), (third, 0)))  # fmt: skip
    z, skewness = deviation / np.sqrt(variance), third / variance**1.5
    return np.minimum(1, 2 * np.minimum(_upper_tail(z, skewness), _upper_tail(-z, -skewness)))


def _upper_tail(z, skewness):
    """P(Z >= z) of Pearson's type III distribution with mean 0 and variance 1: a gamma distribution moved."""
    skewed = np.abs(skewness) > _SYMMETRIC
    skewness = np.where(skewed, skewness, 1)
    shape = 4 / skewness**2
    reached = np.maximum(shape + 2 * z / skewness, 0)
    return np.where(skewed, np.where(skewness > 0, gammaincc(shape, reached), gammainc(shape, reached)), ndtr(-z))


def auc_interval(auc, variance, chance_variance):
    """95 % interval of an AUC: Wilson's score for as many independent trials as the AUC's variance is worth.

    auc: float (...), 0..1. variance: DeLong's, NaN for unknown. chance_variance: of the AUC when two groups without
    ties do not differ, (n₁ + n₂ + 1) / (12 n₁ n₂); it bounds that number of trials, because DeLong's variance is 0
    where a few images happen to lie all above the others. AUC ± 1.96 √variance holds the true AUC in 57 to 83 % of
    samples with 3 to 5 images on one side, and in 91 % of 50 against 50 where it is 0.95; this in 94 % or more.
    Returns (low, high), float64 (...).
    """
    bound = 0.25 / chance_variance
    worth = np.divide(auc * (1 - auc), variance, out=np.full(np.shape(auc), np.inf), where=variance > 0)
    low, high = wilson(auc, np.minimum(worth, bound))
    return np.clip(low, 0, 1), np.clip(high, 0, 1)
