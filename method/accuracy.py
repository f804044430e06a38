"""How well a network predicts what the dictionary's subgroups say, with 95 % intervals (method.md §9)."""

import math
from typing import NamedTuple

import numpy as np

_Z = 1.959964  # half the width of a 95 % interval of the normal distribution, in standard deviations


class Estimate(NamedTuple):
    """A mean over n photographs and its 95 % interval. NaN where n is too small to say."""

    n: int
    value: float
    low: float
    high: float


def share(right):
    """The share of True and its 95 % interval by Wilson's score, which holds near 0 and 1 too.

    right: bool (n,). Returns Estimate.
    """
    right = np.asarray(right, bool)
    n = len(right)
    if n == 0:
        return Estimate(0, math.nan, math.nan, math.nan)
    found = float(right.mean())
    low, high = wilson(found, n)
    return Estimate(n, found, max(float(low), 0.0), min(float(high), 1.0))


def wilson(share, n):
    """The 95 % interval of a share seen in n trials by Wilson's score. share: 0..1; n above 0; both of one shape.

    Returns (low, high) of that shape.
    """
    centre, spread = share + _Z**2 / (2 * n), _Z * np.sqrt(share * (1 - share) / n + _Z**2 / (4 * n * n))
    return tuple((centre + sign * spread) / (1 + _Z**2 / n) for sign in (-1, 1))


def mean(values):
    """The mean and its 95 % interval by the normal approximation. values: float (n,). Returns Estimate."""
    values = np.asarray(values, float)
    n = len(values)
    if n < 2:
        return Estimate(n, float(values.mean()) if n else math.nan, math.nan, math.nan)
    half = _Z * values.std(ddof=1) / math.sqrt(n)
    return Estimate(n, float(values.mean()), float(values.mean() - half), float(values.mean() + half))


def years_outside(years, least, below):
    """By how many years predicted ages lie outside a subgroup's range: the least that their errors can be.

    years: float (n,). least, below: the range [least, below) in years; below may be infinite. Returns float (n,).
    """
    return np.maximum(0, np.maximum(least - years, years - below))
