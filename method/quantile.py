"""Exact quantiles of more numbers than fit into memory (method.md §3.2).

The two neighbouring order statistics are found by selection on the bits of the numbers: three passes of counting, 11,
11 and 10 bits at a time, each narrowing every unit's candidates to one bin. Memory does not depend on how many numbers
there are, and nothing is rounded.
"""

import numpy as np

# (bits to the right of the digit, bits of the digit): together the 32 bits of a float32, highest first.
_DIGITS = ((21, 11), (10, 11), (0, 10))


def ordered_bits(values):
    """float32 values as uint32 numbers in the same order. Any shape; -0 and 0 count as equal; NaN must not occur."""
    bits = (values + np.float32(0)).view(np.uint32)  # adding 0 turns -0 into 0
    # Positive numbers get the top bit, so that they lie above the negative ones; negative ones are turned over.
    return bits ^ ((bits.view(np.int32) >> 31).view(np.uint32) | np.uint32(1 << 31))


def _values(bits):
    """The inverse of ordered_bits."""
    return np.where(bits >> 31, bits ^ np.uint32(1 << 31), ~bits).view(np.float32)


def exact_quantile(passes, units, count, q, summed=None):
    """numpy.quantile(values of a unit as float64, q), for every unit, without holding the values.

    passes: function of one argument f that yields f(values) for each block of the data, values float32 (b, U, P) with
    any b and P; it is called three times and may compute the blocks in threads. units: U. count: numbers per unit
    over all blocks, at least 1. q: 0..1. summed: see util.ranks.Ranks, where blocks are divided among processes; count
    is of all of them. Returns float64 (U,).
    """
    lower, fraction = place_of(count, q)
    ranks = np.array([lower, min(lower + 1, count - 1)])[:, None].repeat(units, axis=1)
    return between(selected(passes, ranks, summed), fraction)


def place_of(count, q):
    """Where numpy.quantile looks among count numbers, ascending: (rank of the lower neighbour, way to the next one)."""
    position = (count - 1) * q
    lower = int(np.floor(position))
    return lower, position - lower


def between(neighbours, fraction):
    """numpy.quantile's own interpolation, to the bit: between two numbers its position is its q.

    neighbours: float32 (2, U), the lower first. Returns float64 (U,).
    """
    return np.quantile(neighbours.astype(np.float64), fraction, axis=0)


def selected(passes, ranks, summed=None):
    """Order statistics of each unit. passes: see exact_quantile; of blocks that do not hold all units in turn it yields
    f(values, unit), values float32 (m, P) and unit int (m,). ranks: int (R, U), ascending from 0. summed: see
    exact_quantile. Returns float32 (R, U).
    """
    prefixes = np.zeros(ranks.shape, np.uint32)
    for shift, width in _DIGITS:
        histograms = _count_digits(passes, prefixes, shift, width)
        if summed is not None:
            (histograms,) = summed(histograms)
        below = np.cumsum(histograms, axis=2)  # (R, U, bins)
        digits = (below <= ranks[:, :, None]).sum(axis=2)
        before = np.take_along_axis(below, np.maximum(digits - 1, 0)[:, :, None], axis=2)[:, :, 0]
        ranks = ranks - np.where(digits > 0, before, 0)
        prefixes = (prefixes << np.uint32(width)) | digits.astype(np.uint32)
    return _values(prefixes)


def _count_digits(passes, prefixes, shift, width):
    """Histograms of one digit of the numbers that begin with each prefix. Returns int64 (R, U, 2**width)."""
    bins, units = 1 << width, prefixes.shape[1]
    same = bool((prefixes == prefixes[0]).all())

    def count(values, unit=None):
        unit = np.arange(units) if unit is None else unit
        bits = ordered_bits(values)
        counted = []
        for prefix in prefixes[:1] if same else prefixes:
            if shift + width == 32:  # the first digit: every number is still a candidate
                cells = (bits >> np.uint32(shift)).astype(np.int64)
                cells += (unit * bins)[:, None]
            else:
                candidates = np.nonzero(bits >> np.uint32(shift + width) == prefix[unit][:, None])
                cells = ((bits[candidates] >> np.uint32(shift)) & np.uint32(bins - 1)) + unit[candidates[-2]] * bins
            counted.append(np.bincount(cells.ravel(), minlength=units * bins))
        return counted

    totals = np.zeros((len(prefixes[:1] if same else prefixes), units * bins), np.int64)
    for counted in passes(count):
        totals += counted
    return np.broadcast_to(totals.reshape(-1, units, bins), (len(prefixes), units, bins))
