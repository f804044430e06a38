"""The largest values of units whose small ones are dropped as they come (method.md §3.2).

A quantile of n values is the K-th largest one, or lies between it and the next larger. The K-th largest value that has
been seen so far is at most that: a bound which only rises, and what does not exceed it may be dropped. What was dropped
is then known to be at most the bound; so K values equal to the bound may stand for all of it, and the values that are
kept, together with these, have the same K largest as all values.
"""

import numpy as np

from method.quantile import between, place_of, selected


def kept_values(count, q):
    """K: as many of the largest of count values decide numpy.quantile(values, q)."""
    return count - place_of(count, q)[0]


def raised_bound(passes, bound, largest):
    """The K-th largest value so far of each unit. passes: of what is kept, yields f(values, unit), see
    method.quantile.selected. bound: float32 (U,), what was dropped is at most that, -inf before anything was. largest:
    K. Returns float32 (U,), -inf for units with fewer values.
    """
    return _largest(passes, bound, [largest])[0]


def top_quantile(passes, bound, count, q):
    """numpy.quantile(all values of a unit as float64, q). passes, bound: see raised_bound. count: numbers per unit,
    with those that were dropped. Returns float64 (U,).
    """
    largest = kept_values(count, q)
    return between(_largest(passes, bound, [largest, max(largest - 1, 1)]), place_of(count, q)[1])


def _largest(passes, bound, places):
    """The k-th largest value of each unit for some k, from 1. Returns float32 (len(places), U)."""

    def turned_over(count):
        yield from passes(lambda values, unit: count(-values, unit))
        of_bound = count(-bound[:, None], np.arange(len(bound)))
        yield [max(places) * counted for counted in of_bound]

    ranks = np.array(places)[:, None].repeat(len(bound), axis=1) - 1
    return 0 - selected(turned_over, ranks)


def deciding(maps, bounds):
    """Which values of maps decide M_u(x) at any threshold from a bound on: those above the bound and those beside them.

    A pixel between four values of which none exceeds the threshold does not exceed it either (see
    method.segmentation.upsample), whatever these are. maps: float32 (A, H, W). bounds: float32 (A,). Returns bool
    (A, H, W).
    """
    near = maps > bounds[:, None, None]
    for before, after in ((near[:, :-1], near[:, 1:]), (near[:, :, :-1], near[:, :, 1:])):
        earlier = before.copy()
        before |= after
        after |= earlier
    return near


def places_beside(places, size):
    """Some places and those beside them in the same map. places: int64 (n,), in maps one behind the other, row by row.
    size: height and width of the maps. Returns int64 (m,), with repetitions.
    """
    height, width = size
    row, column = np.divmod(places % (height * width), width)
    found = []
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            inside = (row + down >= 0) & (row + down < height) & (column + right >= 0) & (column + right < width)
            found.append(places[inside] + down * width + right)
    return np.concatenate(found)
