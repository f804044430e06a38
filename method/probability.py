"""Probabilities from activations: image weights, the concepts of a region, the subgroups of a global concept.

method.md §4 and §5 share the weight of an image: how high it ranks among the images in question, times how far its
peak reaches between the least and the greatest value that the unit takes anywhere.
"""

import numpy as np

# A concept is detected, or a unit biased, when its probability exceeds what is expected by chance by this factor.
DETECTION_FACTOR = 1.5  # P(c|u,R) > 1.5 / |R|
_BIAS_FACTOR_TWO_GROUPS = 1.1  # 0.55 of 0.5
_BIAS_FACTOR = 1.2  # 0.30 of 0.25

TIES = ("mean", "order")

# Of all images, which bounds the memory: resamples at once, and copies of images in them.
_RESAMPLES_AT_ONCE, _COPIES_AT_ONCE = 50, 1 << 23


def ranks(peaks, ties="mean"):
    """r_u(x): positions in ascending order, divided by their number (method.md §4). peaks: (U, n).

    ties: equal peaks share the mean of their positions ('mean'), or keep the order of the images ('order'), as in the
    published program, where a layer that saturates leans to whichever images stand last. Worked: 1 2 1 2 has the ranks
    1.5 3.5 1.5 3.5 over 4; in the order of the images 1 3 2 4 over 4. Returns float64 (U, n) in (0, 1]. Raises
    ValueError.
    """
    order, first, last = _ascending(peaks, ties)
    found = np.empty(peaks.shape)
    np.put_along_axis(found, order, ((first + last) / 2 + 1) / max(peaks.shape[1], 1), axis=1)
    return found


def _ascending(peaks, ties):
    """Images by ascending peak, and the places of the first and the last of the peaks that each shares its rank with:
    three int (U, n), places from 0. Raises ValueError.
    """
    if ties not in TIES:
        raise ValueError(f"ties is {ties!r}: it must be one of {', '.join(TIES)}")
    units, count = peaks.shape
    order = np.argsort(peaks, axis=1, kind="stable")
    places = np.broadcast_to(np.arange(count), peaks.shape)
    if ties == "order":
        return order, places, places
    ascending = np.take_along_axis(peaks, order, axis=1)
    begins = np.ones((units, count), bool)  # where a run of equal peaks begins
    begins[:, 1:] = ascending[:, 1:] != ascending[:, :-1]
    ends = np.roll(begins, -1, axis=1)
    first = np.maximum.accumulate(np.where(begins, places, 0), axis=1)
    last = np.minimum.accumulate(np.where(ends, places, count)[:, ::-1], axis=1)[:, ::-1]
    return order, first, last


def image_weights(peaks, lowest, highest, ties="mean"):
    """w_u(x) = r_u(x) * (p_u(x) - p_min) / (p_max - p_min) (method.md §4).

    peaks: (U, n), p_u(x), the greatest value of each map. lowest, highest: (U,), p_min and p_max over all values of the
    unit. ties: see ranks. Returns float64 (U, n) in 0..1; 0 throughout for a unit whose lowest is its highest.
    """
    peaks = np.asarray(peaks)
    return ranks(peaks, ties) * _reach(peaks, lowest, highest)


def _reach(peaks, lowest, highest):
    """(p_u(x) - p_min) / (p_max - p_min), 0 for a unit whose lowest is its highest: float64 (U, n)."""
    lowest, highest = (np.asarray(bound, np.float64)[:, None] for bound in (lowest, highest))
    span = highest - lowest
    return np.divide(peaks - lowest, span, out=np.zeros(peaks.shape), where=span > 0)


def normalised(scores):
    """scores / Σ scores along the last axis, 0 where the sum is 0. float64 (..., G)."""
    total = scores.sum(axis=-1, keepdims=True)
    return np.divide(scores, total, out=np.zeros(scores.shape), where=total > 0)


def group_probabilities(peaks, lowest, highest, groups, ties="mean"):
    """P(g|u) of the subgroups of one global concept (method.md §5).

    peaks: (U, n) over the images of all groups. lowest, highest: (U,). groups: int (n,), 0..G-1, none of them empty.
    ties: see ranks. Returns float64 (U, G), rows that add up to 1, or 0 for a unit whose maps are constant. Raises
    ValueError.
    """
    sizes = np.bincount(groups)
    if not len(sizes) or not sizes.all():
        raise ValueError(f"the groups have {sizes.tolist()} images: none may be empty")
    weights = image_weights(peaks, lowest, highest, ties)
    members = np.equal(groups[:, None], np.arange(len(sizes))).astype(np.float64)  # (n, G)
    return normalised(weights @ members / sizes)


def bias_threshold(groups):
    """The probability at which a unit counts as biased: 0.55 of two groups, 1.2 / G of more. groups: G >= 2."""
    return (_BIAS_FACTOR_TWO_GROUPS if groups == 2 else _BIAS_FACTOR) / groups


def region_probabilities(iou, peaks, lowest, highest, carries, ties="mean"):
    """P(c|u,R) of the concepts of one region (method.md §4).

    iou: float64 (U, C), of the units and the region's C concepts. peaks: (U, n) over the images that carry at least one
    of them. lowest, highest: (U,). carries: bool (n, C), each concept carried by at least one image. ties: see ranks.
    Returns float64 (U, C), rows that add up to 1, or 0 where no score is above 0. Raises ValueError.
    """
    sizes = carries.sum(axis=0)
    if not sizes.all():
        raise ValueError(f"the concepts are carried by {sizes.tolist()} images: none may be absent")
    weights = image_weights(peaks, lowest, highest, ties)
    return normalised(iou * (weights @ carries.astype(np.float64) / sizes))


def resampled_region_probabilities(iou, peaks, lowest, highest, carries, copies, ties="mean"):
    """P(c|u,R) in B resamples of the photographs (method.md §4 and §8.5), as if each were the whole dictionary.

    iou: float64 (U, C, B), in each resample. copies: int (n, B), how often each image stands in each. The others, and
    errors: see region_probabilities. Ranks, means and IoU are those of the resample; p_min and p_max stay, for the
    extremes of a sample cannot be had from its resamples (and p_max falls out of P). A concept that no image of a
    resample carries has probability 0 there. Returns float64 (U, C, B).
    """
    peaks, carries = np.asarray(peaks), carries.astype(np.float64)
    order, first, last = _ascending(peaks, ties)
    reach = _reach(peaks, lowest, highest)
    scores = np.empty(iou.shape)
    step = max(1, min(_RESAMPLES_AT_ONCE, _COPIES_AT_ONCE // max(len(copies), 1)))
    for start in range(0, copies.shape[1], step):
        some = slice(start, start + step)
        sizes = carries.T @ copies[:, some]  # (C, b)
        for unit, images in enumerate(order):
            mine = copies[images, some].astype(np.float64)  # (n, b), by ascending peak
            before = np.zeros((len(mine) + 1, mine.shape[1]))
            np.cumsum(mine, axis=0, out=before[1:])
            places = (before[first[unit]] + before[last[unit] + 1] + 1) / 2  # mean position of all copies, from 1
            of_images = carries[images] * reach[unit, images][:, None]  # (n, C)
            sums = of_images.T @ (mine * places)
            counted = sizes * before[-1]
            means = np.divide(sums, counted, out=np.zeros(sums.shape), where=counted > 0)
            scores[unit, :, some] = iou[unit, :, some] * means
    return np.moveaxis(normalised(np.moveaxis(scores, 1, 2)), 2, 1)
