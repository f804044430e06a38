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


def ranks(peaks, ties="mean"):
    """r_u(x): positions in ascending order, divided by their number (method.md §4). peaks: (U, n).

    ties: equal peaks share the mean of their positions ('mean'), or keep the order of the images ('order'), as in the
    published program, where a layer that saturates leans to whichever images stand last. Worked: 1 2 1 2 has the ranks
    1.5 3.5 1.5 3.5 over 4; in the order of the images 1 3 2 4 over 4. Returns float64 (U, n) in (0, 1]. Raises
    ValueError.
    """
    if ties not in TIES:
        raise ValueError(f"ties is {ties!r}: it must be one of {', '.join(TIES)}")
    units, count = peaks.shape
    order = np.argsort(peaks, axis=1, kind="stable")
    places = np.broadcast_to(np.arange(1.0, count + 1), peaks.shape)
    if ties == "mean":
        ascending = np.take_along_axis(peaks, order, axis=1)
        begins = np.ones((units, count), bool)  # where a run of equal peaks begins
        begins[:, 1:] = ascending[:, 1:] != ascending[:, :-1]
        ends = np.roll(begins, -1, axis=1)
        first = np.maximum.accumulate(np.where(begins, places, 0), axis=1)
        last = np.minimum.accumulate(np.where(ends, places, count)[:, ::-1], axis=1)[:, ::-1]
        places = (first + last) / 2
    found = np.empty(peaks.shape)
    np.put_along_axis(found, order, places / max(count, 1), axis=1)
    return found


def image_weights(peaks, lowest, highest, ties="mean"):
    """w_u(x) = r_u(x) * (p_u(x) - p_min) / (p_max - p_min) (method.md §4).

    peaks: (U, n), p_u(x), the greatest value of each map. lowest, highest: (U,), p_min and p_max over all values of the
    unit. ties: see ranks. Returns float64 (U, n) in 0..1; 0 throughout for a unit whose lowest is its highest.
    """
    peaks = np.asarray(peaks)
    lowest, highest = (np.asarray(bound, np.float64)[:, None] for bound in (lowest, highest))
    span = highest - lowest
    return ranks(peaks, ties) * np.divide(peaks - lowest, span, out=np.zeros(peaks.shape), where=span > 0)


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
