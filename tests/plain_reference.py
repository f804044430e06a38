"""Method.md §3 as plainly as it can be written: loops over images, units and pixels. Slow, and obviously right."""

import math

import numpy as np


def threshold(values, quantile):
    """values: float32, any shape, of one unit over all images."""
    return np.quantile(values.astype(np.float64).ravel(), 1 - quantile)


def upsample(activation_map, side):
    """Bilinear, half-pixel centres; columns before rows, one float32 operation after the other."""
    height, width = activation_map.shape
    wide = np.empty((height, side), np.float32)
    for row in range(height):
        for column in range(side):
            wide[row, column] = _between(activation_map[row], column, width, side)
    full = np.empty((side, side), np.float32)
    for column in range(side):
        for row in range(side):
            full[row, column] = _between(wide[:, column], row, height, side)
    return full


def _between(line, position, length, side):
    coordinate = min(max((position + 0.5) * length / side - 0.5, 0.0), length - 1.0)
    before = math.floor(coordinate)
    after = min(before + 1, length - 1)
    weight = np.float32(coordinate - before)
    return line[before] + np.float32(weight * np.float32(line[after] - line[before]))


def resize_mask(mask, side):
    height, width = mask.shape
    result = np.empty((side, side), mask.dtype)
    for row in range(side):
        for column in range(side):
            result[row, column] = mask[
                math.floor((row + 0.5) * height / side), math.floor((column + 0.5) * width / side)
            ]
    return result


def dissect(maps, masks, concepts, quantile, side, kept=20):
    """maps: float32 (N, U, H, W). masks: per image {concept: bool (h, w)}, None for an image that is left out.

    Returns a dict with thresholds, intersection, union, union_active, tally (with all images), maps and scores.
    """
    used = [index for index, of_image in enumerate(masks) if of_image is not None]
    units = maps.shape[1]
    shape = (units, len(concepts))
    thresholds = np.array([threshold(maps[used][:, unit], quantile) for unit in range(units)])
    intersection, union, union_active = (np.zeros(shape, np.int64) for _ in range(3))
    single = {}
    for index in used:
        grids = {concept: resize_mask(mask, side) for concept, mask in masks[index].items()}
        for unit in range(units):
            active = np.array(upsample(maps[index, unit], side), np.float64) > thresholds[unit]
            for concept, grid in grids.items():
                at = unit, concepts.index(concept)
                inside, either = int((active & grid).sum()), int((active | grid).sum())
                intersection[at] += inside
                union[at] += either
                union_active[at] += either if active.any() else 0
                single.setdefault(at, []).append((inside / either if either else 0.0, index))
    best = np.full((*shape, kept), -1)
    scores = np.zeros((*shape, kept))
    for at, found in single.items():
        for rank, (score, index) in enumerate(sorted(found, key=lambda pair: (-pair[0], pair[1]))[:kept]):
            best[at][rank], scores[at][rank] = index, score
    tally = np.array(
        [[i / u if u else 0.0 for i, u in zip(*rows, strict=True)] for rows in zip(intersection, union, strict=True)]
    )
    return {
        "thresholds": thresholds, "intersection": intersection, "union": union, "union_active": union_active,
        "tally": tally, "maps": best, "scores": scores,
    }  # fmt: skip
