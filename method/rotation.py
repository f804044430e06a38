"""Random rotations of a layer's units and their fractional powers: other bases of the same space (method.md §8.8)."""

from functools import cached_property

import numpy as np
from scipy import stats
from scipy.linalg import schur

_LEVEL = 0.95  # of the prediction interval
_LEAST_DEVIATION = 0.5  # of counts, which are whole: less than that is rounding


def random_rotation(units, seed):
    """A rotation drawn from the Haar measure on SO(U). units: U. Returns Rotation."""
    matrix, triangle = np.linalg.qr(np.random.default_rng(seed).standard_normal((units, units)))
    matrix *= np.sign(np.diagonal(triangle))  # which LAPACK chooses: Haar only with the triangle's diagonal positive
    if np.linalg.slogdet(matrix)[0] < 0:
        matrix[0] *= -1
    return Rotation(matrix)


class Rotation:
    """matrix: float64 (U, U), orthogonal with determinant 1; a basis of U new units, a row each."""

    def __init__(self, matrix):
        self.matrix = matrix

    @cached_property
    def _planes(self):
        """The rotation as turns in planes: (float64 (U, U), orthonormal columns; list of (column, column, angle))."""
        # The real Schur form of an orthogonal matrix has blocks of 2 x 2, which turn, and single numbers 1 and -1.
        form, columns = schur(self.matrix)
        units = len(form)
        firsts = [place for place in range(units - 1) if form[place + 1, place] != 0]
        planes = [(place, place + 1, np.arctan2(form[place + 1, place], form[place, place])) for place in firsts]
        single = {*range(units)} - {column for first, second, _ in planes for column in (first, second)}
        turned = sorted(column for column in single if form[column, column] < 0)  # an even number, det being 1
        planes += [(first, second, np.pi) for first, second in zip(turned[::2], turned[1::2], strict=True)]
        return columns, planes

    def power(self, power):
        """Every plane turned by its angle times power, 0..1. Returns float64 (U, U); of 0 exactly the identity."""
        turn = np.eye(len(self.matrix))
        if power == 0:
            return turn
        columns, planes = self._planes
        for first, second, angle in planes:
            turn[first, first] = turn[second, second] = np.cos(power * angle)
            turn[second, first] = np.sin(power * angle)
            turn[first, second] = -turn[second, first]
        return columns @ turn @ columns.T


def rotate(matrix, maps):
    """The maps of new units, each a sum of the old ones. matrix: float64 (U, U). maps: float32 (b, U, H, W).

    Summed in float64 and rounded once. Returns float32 (b, U, H, W).
    """
    flat = maps.reshape(*maps.shape[:2], maps.shape[2] * maps.shape[3])
    return (matrix @ flat.astype(np.float64)).astype(np.float32).reshape(maps.shape)


def prediction_interval(counts):
    """Where one more count of the same kind lies with 95 % probability. counts: at least 2. Returns (low, high).

    mean ± t sd sqrt(1 + 1/n) with n - 1 degrees of freedom, sd at least 1/2. Of counts of Poisson's distribution it
    leaves out at most 3 % on each side.
    """
    counts = np.asarray(counts, np.float64)
    deviation = max(counts.std(ddof=1), _LEAST_DEVIATION)
    half = stats.t.ppf((1 + _LEVEL) / 2, len(counts) - 1) * deviation * np.sqrt(1 + 1 / len(counts))
    return float(counts.mean() - half), float(counts.mean() + half)
