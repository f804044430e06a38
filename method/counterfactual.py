"""How far a prediction moves when one concept of a face is switched, and which units carry that (method.md §9)."""

from typing import NamedTuple

import numpy as np

from method.comparison import interval


class Mean(NamedTuple):
    """A mean over faces with its 95 % interval, paired: the same faces in both versions. NaN without resamples."""

    value: float
    low: float
    high: float


def paired_mean(movements, weights):
    """The mean movement of n faces. movements: float (n,), with less without. weights: (n, B). Returns Mean."""
    if not len(movements):
        return Mean(np.nan, np.nan, np.nan)
    return Mean(float(movements.mean()), *_bounds(movements, np.ones(len(movements)), weights))


def carried_share(carried, movements, weights):
    """The share of the whole movement that is carried. carried, movements: float (n,). weights: (n, B). Returns Mean.

    Of faces that move in opposite directions the movements cancel, so that a share may exceed 1 or lie below 0.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        return Mean(float(carried.sum() / movements.sum()), *_bounds(carried, movements, weights))


def _bounds(of, per, weights):
    with np.errstate(invalid="ignore", divide="ignore"):
        drawn = of @ weights / (per @ weights)
    return (float(end) for end in interval(drawn))


def carried_by(off, on, off_with, on_without):
    """What units carry of a movement: the mean of what is undone when the switched face gets their maps of the other
    version, and of what is done when the other gets theirs.

    off, on: float (n,), the predictions of both versions. off_with: of the face without the concept and the units' maps
    with it; on_without: the reverse; float (..., n). Returns float (..., n).
    """
    return ((on - on_without) + (off_with - off)) / 2
