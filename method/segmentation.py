"""From activation maps to thresholded pixels, and counting them against masks (method.md §3.3 and §3.4).

Everything here is exact or in a fixed order of single float32 operations, so the same maps give the same pixels on any
machine, in any batch, with any number of threads.
"""

from functools import cache

import numpy as np

from util.packing import pack

PIXELS_AT_ONCE = 1 << 18  # upsampled together: few enough for a core's cache, many enough to pay for the calls


@cache
def interpolation_table(length, count):
    """Where each of count output pixels lies among length input pixels, for bilinear interpolation.

    Pixel centres lie at half-integers (no corner alignment): output i has its centre at input coordinate
    (i + 0.5) * length / count - 0.5, held within [0, length - 1]. Worked: length 2 to count 4 gives the coordinates
    0, 0.25, 0.75, 1. Returns (lower, weight): int64 (count,), the input pixel before it, and float32 (count,) in
    [0, 1), how far it lies towards the next one.
    """
    coordinates = np.clip((np.arange(count) + 0.5) * length / count - 0.5, 0, length - 1)
    lower = np.floor(coordinates).astype(np.int64)
    weight = (coordinates - lower).astype(np.float32)
    for shared in (lower, weight):
        shared.flags.writeable = False
    return lower, weight


def upsample(maps, grid):
    """Bilinear upsampling S_u(x) (method.md §3.3). maps: float32 (A, H, W). Returns float32 (A, rows, columns).

    Columns first, then rows, each as a + weight * (b - a) in float32. In that form a constant map stays constant to
    the last bit, and no pixel exceeds the largest of its four neighbours, so that a map whose maximum is not above the
    threshold cannot become active.
    """
    for axis in (2, 1):
        lower, weight = interpolation_table(maps.shape[axis], grid[axis - 1])
        steps = np.diff(maps, axis=axis, append=maps.take([-1], axis))  # the last pixel has no next: step 0
        pixels = np.take(steps, lower, axis)  # unlike an index, take lays its result out in order
        pixels *= weight if axis == 2 else weight[:, None]
        pixels += np.take(maps, lower, axis)
        maps = pixels
    return maps


def float32_floor(thresholds):
    """The largest float32 not above each float64 threshold: for a float32 s, s > threshold exactly when s > that."""
    rounded = np.asarray(thresholds, np.float64).astype(np.float32)
    return np.where(rounded > thresholds, np.nextafter(rounded, np.float32(-np.inf)), rounded)


def active_pixels(maps, thresholds, grid):
    """M_u(x) = S_u(x) > T_u. maps: float32 (A, H, W); thresholds: float64 (A,). Returns bool (A, rows, columns)."""
    return upsample(maps, grid) > float32_floor(thresholds)[:, None, None]


def packed_active_pixels(maps, thresholds, grid):
    """active_pixels of any number of maps, packed (see pack) a few at a time. Returns uint64 (A, words)."""
    step = max(1, PIXELS_AT_ONCE // (grid[0] * grid[1]))
    few = [slice(start, start + step) for start in range(0, max(len(maps), 1), step)]
    return np.concatenate([pack(active_pixels(maps[some], thresholds[some], grid)) for some in few])


def count_pixels(packed):
    """Number of set pixels of packed images (..., words). Returns int64 (...)."""
    return np.bitwise_count(packed).sum(axis=-1, dtype=np.int64)


def count_overlap(active, masks):
    """Pixels in which units and concepts agree, |M_u ∩ L_c| (method.md §3.4).

    active: packed (A, words); masks: packed (C, words), of the same grid. Returns int64 (A, C).
    Raises ValueError when the grids differ.
    """
    if active.shape[1] != masks.shape[1]:
        raise ValueError(
            f"unit maps have {active.shape[1]} words but the masks {masks.shape[1]}: use one grid for both"
        )
    overlap = np.empty((len(active), len(masks)), np.int64)
    for concept, mask in enumerate(masks):
        overlap[:, concept] = count_pixels(active & mask)
    return overlap
