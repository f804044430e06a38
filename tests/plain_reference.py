"""The method as plainly as it can be written: loops over images, units and pixels. Slow, and obviously right.

Nothing here is taken from the program; what is compared with it to the last digit is computed the same way, and the
whole method below by other means: Pillow, torch's own interpolation, one contiguous image at a time, ranks by counting.
"""

import math

import cv2
import numpy as np
import torch
from PIL import Image, ImageOps
from torch.nn import functional


def threshold(values, quantile):
    """values: float32, any shape, of one unit over all images."""
    return np.quantile(values.astype(np.float64).ravel(), 1 - quantile)


def upsample(activation_map, grid):
    """Bilinear, half-pixel centres; columns before rows, one float32 operation after the other."""
    height, width = activation_map.shape
    rows, columns = grid
    wide = np.empty((height, columns), np.float32)
    for row in range(height):
        for column in range(columns):
            wide[row, column] = _between(activation_map[row], column, width, columns)
    full = np.empty(grid, np.float32)
    for column in range(columns):
        for row in range(rows):
            full[row, column] = _between(wide[:, column], row, height, rows)
    return full


def _between(line, position, length, count):
    coordinate = min(max((position + 0.5) * length / count - 0.5, 0.0), length - 1.0)
    before = math.floor(coordinate)
    after = min(before + 1, length - 1)
    weight = np.float32(coordinate - before)
    return line[before] + np.float32(weight * np.float32(line[after] - line[before]))


def resize_mask(mask, grid):
    height, width = mask.shape
    rows, columns = grid
    result = np.empty(grid, mask.dtype)
    for row in range(rows):
        for column in range(columns):
            result[row, column] = mask[
                math.floor((row + 0.5) * height / rows), math.floor((column + 0.5) * width / columns)
            ]
    return result


def dissect(maps, masks, concepts, quantile, grid, kept=20):
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
        grids = {concept: resize_mask(mask, grid) for concept, mask in masks[index].items()}
        for unit in range(units):
            active = np.array(upsample(maps[index, unit], grid), np.float64) > thresholds[unit]
            for concept, mask in grids.items():
                at = unit, concepts.index(concept)
                inside, either = int((active & mask).sum()), int((active | mask).sum())
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


# ------------------------------------------------------------------------------------ the whole method, image by image


def read_image(path):
    """A photograph as people see it, uint8 (H, W, 3), by Pillow alone."""
    image = ImageOps.exif_transpose(Image.open(path))
    if image.mode.startswith("I;16"):  # Pillow would clip what is above 255
        return np.repeat((np.asarray(image) // 256).astype(np.uint8)[:, :, None], 3, axis=2)
    if image.mode in ("RGBA", "LA", "PA"):  # transparency is dropped, not laid over black
        image = image.convert("RGBA")
        return np.asarray(image)[:, :, :3].copy()
    return np.asarray(image.convert("RGB"))


def find_box(detector, image):
    """The box of the largest face, whole pixels within the image. detector: facenet_pytorch.MTCNN."""
    boxes, _ = detector.detect(Image.fromarray(image))
    left, top, right, bottom = boxes[0]
    height, width = image.shape[:2]
    return int(max(left, 0)), int(max(top, 0)), int(min(right, width)), int(min(bottom, height))


def maps_of(network, image, box, side):
    """A_u(x) of one image: float32 (U, H, W). network: gives maps for (x - 127.5) / 128 of one contiguous image."""
    left, top, right, bottom = box
    cut = np.ascontiguousarray(image[top:bottom, left:right])
    shrinks = min(cut.shape[:2]) >= side
    seen = cv2.resize(cut, (side, side), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    planes = np.ascontiguousarray(seen.transpose(2, 0, 1), np.float32)
    with torch.no_grad():
        return network(torch.from_numpy((planes - 127.5) / 128)[None])[0].numpy()


def active(activation_map, limit, side):
    """M_u(x) by torch's own interpolation. Returns bool (side, side)."""
    upsampled = functional.interpolate(
        torch.from_numpy(activation_map)[None, None], size=(side, side), mode="bilinear", align_corners=False
    )
    return upsampled[0, 0].numpy().astype(np.float64) > limit


def rank(peaks, image):
    """r_u(x): the mean position among equal peaks, from 1, divided by their number."""
    below = sum(other < peaks[image] for other in peaks)
    equal = sum(other == peaks[image] for other in peaks)
    return (below + (equal + 1) / 2) / len(peaks)


def weights(peaks, lowest, highest):
    if highest == lowest:
        return [0.0] * len(peaks)
    return [rank(peaks, image) * (peaks[image] - lowest) / (highest - lowest) for image in range(len(peaks))]


def shares(scores):
    return [score / sum(scores) if sum(scores) else 0.0 for score in scores]


def bias_of(maps, sizes):
    """P(g|u) of one unit. maps: float32 (n, H, W), group after group; sizes: images per group."""
    of_images = weights([float(one.max()) for one in maps], float(maps.min()), float(maps.max()))
    scores, start = [], 0
    for size in sizes:
        scores.append(sum(of_images[start : start + size]) / size)
        start += size
    return shares(scores)


def hierarchy_of(maps, carries, overlaps):
    """P(c|u,R) of one unit. maps: float32 (N, H, W). carries: bool (N, C), of the region. overlaps: C IoU."""
    images = [image for image in range(len(maps)) if carries[image].any()]
    of_images = weights([float(maps[image].max()) for image in images], float(maps.min()), float(maps.max()))
    scores = []
    for concept, overlap in enumerate(overlaps):
        mine = [weight for weight, image in zip(of_images, images, strict=True) if carries[image, concept]]
        scores.append(overlap * sum(mine) / len(mine))
    return shares(scores)
