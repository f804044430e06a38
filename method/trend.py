"""Whether a number rises with a condition: Spearman's rank correlation, over repetitions, beside its chance level."""

from dataclasses import dataclass
from itertools import permutations
from math import factorial

import numpy as np
from scipy.stats import rankdata, t

# Conditions of which all orders are gone through; of more, some are drawn at random.
_MOST_LISTED, _ORDERS = 7, 5000
_DRAWS = 20000  # of means over repetitions
_ROUNDING = 1e-12  # of a rho


@dataclass(frozen=True)
class Trend:
    """How a number goes with a condition over S repetitions.

    rhos: float64 (S,), Spearman's rho of each, 0 where the number never changes. rho_of_means: that of the means over
    repetitions, whose noise is less. low, high: 95 % interval of their mean
    over repetitions (Student's t, within -1..1), NaN for a single one. p: how often chance gives such a mean or a
    larger one when every order of the conditions is equally likely, in each repetition apart; p_falls: such a mean or a
    smaller one. least_p: the p of numbers that rise with every condition, in every repetition.
    """

    rhos: np.ndarray
    rho_of_means: float
    low: float
    high: float
    p: float
    p_falls: float
    least_p: float

    @property
    def rho(self):
        """The mean over repetitions."""
        return float(self.rhos.mean())

    @classmethod
    def of(cls, conditions, numbers):
        """conditions: float (P,), none twice. numbers: float (S, P), a row per repetition. Raises ValueError."""
        conditions, numbers = np.asarray(conditions, float), np.asarray(numbers, float)
        if numbers.ndim != 2 or numbers.shape[1] != len(conditions) or len(set(conditions.tolist())) < 2:
            raise ValueError(f"numbers must be (S, P), P >= 2 conditions, not {numbers.shape} of {conditions.tolist()}")
        ranks = _centred(conditions)
        of_numbers = [_centred(row) for row in numbers]
        rhos = np.array([_rho(ranks, row) for row in of_numbers])
        low, high = mean_interval(rhos)
        least = max(1.0 / factorial(len(ranks)) ** len(rhos), 0.0 if len(rhos) == 1 else 1 / (_DRAWS + 1))
        of_means = _rho(ranks, _centred(numbers.mean(axis=0)))
        return cls(rhos, of_means, max(low, -1.0), min(high, 1.0), *_p(ranks, of_numbers, rhos), least)


def mean_interval(values):
    """95 % interval of the mean of repetitions (Student's t). values: float (S,). Returns (low, high), NaN for one."""
    values = np.asarray(values, float)
    if len(values) < 2:
        return np.nan, np.nan
    half = t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)


def _centred(values):
    ranks = rankdata(values)
    return ranks - ranks.mean()


def _rho(one, other):
    size = np.sqrt((one**2).sum() * (other**2).sum())
    return float(np.clip((one * other).sum() / size, -1, 1)) if size > 0 else 0.0


def _p(ranks, of_numbers, rhos):
    """The shares of orders whose mean rho is at least, and at most, the observed one; exact for a single repetition."""
    random = np.random.default_rng(0)
    if len(ranks) <= _MOST_LISTED:
        orders = list(permutations(range(len(ranks))))
    else:
        orders = [list(range(len(ranks))), *(random.permutation(len(ranks)).tolist() for _ in range(_ORDERS - 1))]
    chance = [np.array([_rho(ranks[list(order)], row) for order in orders]) for row in of_numbers]
    if len(chance) == 1:
        return tuple(float((sign * chance[0] >= sign * rhos[0] - _ROUNDING).mean()) for sign in (1, -1))
    drawn = sum(random.choice(of, _DRAWS) for of in chance) / len(chance)
    return tuple(
        float((1 + (sign * drawn >= sign * rhos.mean() - _ROUNDING).sum()) / (_DRAWS + 1)) for sign in (1, -1)
    )


def holm(p_values):
    """p-values of several tests, raised so that any one at most alpha is so by chance with at most that probability.

    p_values: float (n,). Returns float64 (n,), in their order (Holm, 1979). Worked: 0.01, 0.04, 0.03 give 0.03, 0.06,
    0.06.
    """
    p_values = np.asarray(p_values, float)
    order = np.argsort(p_values, kind="stable")
    raised = np.maximum.accumulate(p_values[order] * np.arange(len(order), 0, -1))
    found = np.empty(len(order))
    found[order] = np.minimum(raised, 1)
    return found
