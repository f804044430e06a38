"""Counting how units and concepts overlap in every half and resample of the photographs, in one pass (method.md §8).

All counts are whole numbers, added up exactly, so nothing depends on batches, threads or processes. The state does not
grow with the number of images.
"""

from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array

from method.chance import ActiveMaps
from method.outlines import Outlines, counted_up
from method.segmentation import PIXELS_AT_ONCE, active_pixels, count_overlap, count_pixels, float32_floor, pack

# What may wait to be added up, enough to pay for a sum over all units: pairs of an active map and a mask, and images.
_WAITING, _IMAGES_WAITING = 1 << 19, 1 << 13


class _Measured(NamedTuple):
    """Of some images. n pairs of an active map and a mask of its image, m masks, b images.

    weights: uint8 (b, 3 + B). concept, image, area: (m,), of each mask, the image by its place. pair: int64 (n,),
    concept * U + unit. of: int64 (n,), the image. intersection, unit_area, by_location: int64 (n,). active: ActiveMaps
    that are to be kept.
    """

    weights: np.ndarray
    concept: np.ndarray
    image: np.ndarray
    area: np.ndarray
    pair: np.ndarray
    of: np.ndarray
    intersection: np.ndarray
    unit_area: np.ndarray
    by_location: np.ndarray
    active: ActiveMaps


class WeightedCounts:
    """What a layer's units and all concepts share, under each column of Chances.weights.

    A statistic of the pass over maps and masks: measure(maps, images, labels) in any thread, add(measured) in any
    order, merge(ranks) at the end. thresholds: float64 (U,). units: slice of them, those that are counted. heights:
    int64 (C, P), how many masks of each concept each pixel lies in, over all images. chances: method.chance.Chances.
    kept: bool (N,), images whose active maps are wanted afterwards. room: bytes that these may take.

    Of U units that are counted, at the end: intersection, unit_area: float64 (C, U, 3 + B), Σ w |M_u ∩ L_c| and Σ w
    |M_u| over the images that carry c. images, mask_area: float64 (C, 3 + B), Σ w and Σ w |L_c|. by_location: int64
    (C, U), Σ over pairs of these images of |M_u(x) ∩ L_c(y)|. active: ActiveMaps of the units, by their places among
    these, on the images kept; None where they take more room.
    """

    def __init__(self, thresholds, units, heights, chances, kept, room):
        self.units, self.thresholds, self.chances = units, thresholds[units], chances
        self.kept, self.room, self.active = kept, room, []
        self.before = np.stack([counted_up(of_concept) for of_concept in heights])  # (C, P + 1)
        shape = len(heights), len(self.thresholds)
        self.intersection, self.unit_area = np.zeros((2, *shape, chances.columns))
        self.images, self.mask_area = np.zeros((2, len(heights), chances.columns))
        self.by_location = np.zeros(shape, np.int64)
        self._waiting, self._n_waiting = [], np.zeros(2, int)

    def within(self, units):
        """Some of the layer's units by their places among those that are counted. units: slice. Returns slice."""
        return slice(units.start - self.units.start, units.stop - self.units.start)

    def measure(self, maps, images, labels):
        """Count some images. maps: float32 (b, all units, H, W). images: b indices. labels: b method.tally.Labels."""
        maps = maps[:, self.units]
        peaks = maps.reshape(*maps.shape[:2], -1).max(axis=2)
        position, unit = np.nonzero(peaks > float32_floor(self.thresholds))
        bounds = np.searchsorted(position, np.arange(len(images) + 1))
        units = [unit[first:last] for first, last in zip(bounds, bounds[1:], strict=False)]
        active = [self._outlines(maps[place], units[place], of.grid) for place, of in enumerate(labels)]
        found = [self._of_image(place, of, units[place], *active[place]) for place, of in enumerate(labels)]
        return _Measured(
            self.chances.weights(images), *map(np.concatenate, zip(*found, strict=True)),
            self._to_keep(images, units, [outlines for outlines, _ in active]),
        )  # fmt: skip

    def _outlines(self, maps, units, grid):
        """Where units are active in an image. maps: of all units. units: int (A,). Returns (Outlines of A, packed)."""
        outlines, packed = [], []
        step = max(1, PIXELS_AT_ONCE // (grid[0] * grid[1]))
        for start in range(0, max(len(units), 1), step):
            some = units[start : start + step]
            pixels = active_pixels(maps[some], self.thresholds[some], grid)
            outlines.append(Outlines.of(pixels))
            packed.append(pack(pixels))
        return Outlines.joined(outlines), np.concatenate(packed)

    def _of_image(self, place, labels, units, outlines, packed):
        """Of one image the columns of _Measured between weights and active."""
        concepts, whole = labels.all, np.ones((len(labels.whole), *labels.grid), bool)
        masks = np.concatenate([labels.bits, pack(whole)])
        pairs = concepts[:, None] * len(self.thresholds) + units  # (m, A)
        by_location = outlines.total(self.before[concepts[:, None], outlines.edges])
        return (
            concepts, np.full(len(concepts), place), count_pixels(masks), pairs.ravel(), np.full(pairs.size, place),
            count_overlap(packed, masks).T.ravel(), np.tile(count_pixels(packed), len(concepts)), by_location.ravel(),
        )  # fmt: skip

    def _to_keep(self, images, units, outlines):
        """ActiveMaps of those of some images that are to be kept."""
        places = np.flatnonzero(self.kept[images]) if self.active is not None else []
        return ActiveMaps.joined([
            ActiveMaps(units[place], np.full(len(units[place]), images[place]), outlines[place]) for place in places
        ])  # fmt: skip

    def add(self, measured):
        np.add.at(self.by_location.ravel(), measured.pair, measured.by_location)
        if self.active is not None and len(measured.active.unit):
            self.active.append(measured.active)
            self.room -= measured.active.nbytes
            if self.room < 0:
                self.active = None
        self._waiting.append(measured[:-2])
        self._n_waiting += len(measured.weights), len(measured.pair)
        if (self._n_waiting > (_IMAGES_WAITING, _WAITING)).any():
            self._merge()

    def _merge(self):
        """Add up what waits, concept after concept, so that no temporary is as large as the state."""
        if not self._waiting:
            return
        parts = list(zip(*self._waiting, strict=True))  # in the order of _Measured
        before = np.cumsum([0, *map(len, parts[0])])[:-1]  # images before each part's
        weights, concept, image, area, pair, of, intersection, unit_area = map(np.concatenate, parts)
        image, of = (
            places + np.repeat(before, list(map(len, own))) for places, own in ((image, parts[2]), (of, parts[5]))
        )
        weights = weights.astype(np.float64)
        for total, values in ((self.images, np.ones(len(image))), (self.mask_area, area)):
            total += _sparse(values, concept, image, (len(total), len(weights))) @ weights
        for total, values in ((self.intersection, intersection), (self.unit_area, unit_area)):
            concepts, units, _ = total.shape
            sparse = _sparse(values, pair, of, (concepts * units, len(weights)))
            for number in range(concepts):
                total[number] += sparse[number * units : (number + 1) * units] @ weights
        self._waiting, self._n_waiting = [], np.zeros(2, int)

    def merge(self, ranks):
        """Add up what all processes have counted. ranks: util.ranks.Ranks."""
        self._merge()
        self.images, self.mask_area, self.by_location = ranks.summed(self.images, self.mask_area, self.by_location)
        for total in (self.intersection, self.unit_area):
            for of_concept in total:
                (of_concept[:],) = ranks.summed(of_concept)
        parts = ranks.shared(ranks.gathered(self.active))
        self.active = None if None in parts else ActiveMaps.joined(sum(parts, []))


def _sparse(values, rows, columns, shape):
    return csr_array((values.astype(np.float64), (rows, columns)), shape)
