"""Counting how units and concepts overlap, over images in any order and any batches (method.md §3.4).

All counts are integers and ranks are decided by (score, image index), so the result does not depend on how the images
were cut into batches or which thread counted them.
"""

from dataclasses import dataclass, field, fields

import numpy as np

from method.segmentation import count_overlap, count_pixels, float32_floor, pack, packed_active_pixels

IMAGES_KEPT = 20  # K: best images kept per unit and concept
_MERGE_AT = 1 << 20  # candidates for the best images that may wait before they are merged

UNIONS = ("all", "active")


@dataclass(frozen=True)
class Tally:
    """How well each unit of a layer matches each concept: what `<layer>_tally.npz` holds.

    U units, C concepts of the dictionary in concept order, K = 20 images kept per pair.
    tally: float64 (U, C), IoU in 0..1. maps: int64 (U, C, K), image indices, best first, -1 where none. scores: float64
    (U, C, K), their IoU within that image. intersection, union, union_active: int64 (U, C), pixels. concepts, types,
    regions: str (C,), a region is empty where a concept lies in none. carries: bool (N, C), which image carries which
    concept; False throughout for one that was left out. thresholds: float64 (U,). iou_union: which union tally divides
    by, 'all' or 'active'. map_size: int64 (2,), height and width of the maps. fingerprint: of what it was made from.
    """

    tally: np.ndarray
    maps: np.ndarray
    scores: np.ndarray
    intersection: np.ndarray
    union: np.ndarray
    union_active: np.ndarray
    concepts: np.ndarray
    types: np.ndarray
    regions: np.ndarray
    carries: np.ndarray
    thresholds: np.ndarray
    iou_union: np.ndarray
    map_size: np.ndarray
    fingerprint: np.ndarray = field(default_factory=lambda: np.array(""))


class TallyStatistic:
    """Tallies the IoU of every unit and concept (method.md §3.3 and §3.4).

    A statistic of the pass over the maps: measure(maps, images, masks) in any thread, add(measured) in the order of the
    images, result(). thresholds: float64 (U,). concepts: list with name, type, region. carries: bool (N, C). grid:
    of the counting grid. iou_union: one of UNIONS. Raises ValueError for another.
    """

    def __init__(self, thresholds, concepts, carries, grid, iou_union="all"):
        if iou_union not in UNIONS:
            raise ValueError(f"iou_union is {iou_union!r}: it must be one of {', '.join(UNIONS)}")
        self.thresholds, self.concepts, self.carries = thresholds, concepts, carries
        self.grid, self.iou_union = grid, iou_union
        self.map_size = (0, 0)
        self.counts = Counts.zero(len(thresholds), len(concepts))
        self.best = BestImages(len(thresholds), len(concepts))

    def measure(self, maps, images, masks):
        """Count some images. maps: float32 (b, U, H, W). images: b indices. masks: see Dictionary.masks, per image.

        Returns (Counts, candidates): candidates are the pairs that touch, as arrays (pair, image, score) where pair is
        unit * C + concept and score the IoU within that single image.
        """
        self.map_size = maps.shape[2:]  # the same in every thread
        counts = Counts.zero(len(self.thresholds), len(self.concepts))
        # A map whose maximum is not above the threshold has no active pixel (see segmentation.upsample): only the few
        # others, about one in twelve for a 4x4 map at the 0.5 % quantile, are upsampled at all.
        peaks = maps.reshape(*maps.shape[:2], -1).max(axis=2)
        position, unit = np.nonzero(peaks > float32_floor(self.thresholds))
        bounds = np.searchsorted(position, np.arange(len(images) + 1))
        pairs, seen, scores = [], [], []
        for index, (concepts, of_image) in enumerate(masks):
            if not len(concepts):
                continue
            units = unit[bounds[index] : bounds[index + 1]]
            active = packed_active_pixels(maps[index, units], self.thresholds[units], self.grid)
            packed_masks = pack(of_image)
            area, mask_area = count_pixels(active), count_pixels(packed_masks)
            overlap = count_overlap(active, packed_masks)  # (A, m)
            at = np.ix_(units, concepts)
            counts.intersection[at] += overlap
            counts.unit_area[at] += area[:, None]
            counts.mask_area[concepts] += mask_area
            counts.active_mask_area[at] += mask_area * (area > 0)[:, None]
            touching = np.nonzero(overlap)
            pairs.append(units[touching[0]] * len(self.concepts) + np.asarray(concepts)[touching[1]])
            seen.append(np.full(len(touching[0]), images[index]))
            scores.append(iou(overlap, area[:, None] + mask_area - overlap)[touching])
        return counts, tuple(np.concatenate(part) if part else np.zeros(0, int) for part in (pairs, seen, scores))

    def add(self, measured):
        counts, candidates = measured
        self.counts.add(counts)
        self.best.add(*candidates)

    def result(self):
        """Returns Tally."""
        counts = self.counts
        best, scores = self.best.result([np.flatnonzero(column) for column in self.carries.T])
        return Tally(
            tally=iou(counts.intersection, counts.union_active if self.iou_union == "active" else counts.union),
            maps=best,
            scores=scores,
            intersection=counts.intersection,
            union=counts.union,
            union_active=counts.union_active,
            concepts=np.array([concept.name for concept in self.concepts]),
            types=np.array([concept.type for concept in self.concepts]),
            regions=np.array([concept.region or "" for concept in self.concepts]),
            carries=self.carries,
            thresholds=self.thresholds,
            iou_union=np.array(self.iou_union),
            map_size=np.array(self.map_size),
        )


@dataclass
class Counts:
    """Pixel counts over some images. U units, C concepts; every sum runs over the images that carry the concept.

    intersection: int64 (U, C), of M_u and L_c. unit_area: int64 (U, C), of M_u. mask_area: int64 (C,), of L_c.
    active_mask_area: int64 (U, C), of L_c where M_u is not empty.
    """

    intersection: np.ndarray
    unit_area: np.ndarray
    mask_area: np.ndarray
    active_mask_area: np.ndarray

    @classmethod
    def zero(cls, units, concepts):
        shape = (units, concepts)
        return cls(np.zeros(shape, int), np.zeros(shape, int), np.zeros(concepts, int), np.zeros(shape, int))

    def add(self, other):
        for part in fields(self):
            total = getattr(self, part.name)
            total += getattr(other, part.name)

    @property
    def union(self):
        """|M_u ∪ L_c|, an image where the unit is silent counting with |L_c|. int64 (U, C)."""
        return self.unit_area + self.mask_area - self.intersection

    @property
    def union_active(self):
        """The same without the images where the unit is silent, as the published program has it. int64 (U, C)."""
        return self.unit_area + self.active_mask_area - self.intersection


def iou(intersection, union):
    """intersection / union, float64, with 0/0 = 0. int64 arrays of one shape."""
    return np.divide(intersection, union, out=np.zeros(np.shape(union)), where=np.asarray(union) > 0)


class BestImages:
    """The K images with the highest single-image IoU of every (unit, concept) pair; ties: the lower image index."""

    def __init__(self, units, concepts, kept=IMAGES_KEPT):
        self.shape, self.kept = (units, concepts), kept
        self.images = np.full((units * concepts, kept), -1)
        self.scores = np.zeros((units * concepts, kept))
        self._waiting, self._n_waiting = [], 0

    def add(self, pairs, images, scores):
        """Offer candidates: int (n,) pair numbers unit * C + concept, int (n,) images, float64 (n,) scores above 0."""
        better = scores >= self.scores[pairs, -1]
        self._waiting.append((pairs[better], images[better], scores[better]))
        self._n_waiting += int(better.sum())
        if self._n_waiting > _MERGE_AT:
            self._merge()

    def _merge(self):
        held_pair, held_rank = np.nonzero(self.images >= 0)
        held = (held_pair, self.images[held_pair, held_rank], self.scores[held_pair, held_rank])
        pairs, images, scores = (np.concatenate(parts) for parts in zip(held, *self._waiting, strict=True))
        order = np.lexsort((images, -scores, pairs))
        pairs, images, scores = pairs[order], images[order], scores[order]
        rank = np.arange(len(pairs)) - np.searchsorted(pairs, pairs)
        top = rank < self.kept
        self.images[pairs[top], rank[top]] = images[top]
        self.scores[pairs[top], rank[top]] = scores[top]
        self._waiting, self._n_waiting = [], 0

    def result(self, carriers):
        """The best images, best first. carriers: per concept the indices of the images that carry it, ascending.

        Images whose IoU is 0 follow in the order of their index, as far as there is room: every image that carries the
        concept has a rank. Returns (images, scores): int64 and float64 (U, C, K), -1 and 0 where no image is left.
        """
        if self._waiting:
            self._merge()
        units, concepts = self.shape
        images = self.images.reshape(units, concepts, self.kept)
        for concept, indices in enumerate(carriers):
            # A row that holds k images lacks K - k, and at most k of the first K carriers stand in it: these suffice.
            first = np.asarray(indices[: self.kept], int)
            found_of = (images[:, concept] >= 0).sum(axis=1)
            images[found_of == 0, concept, : len(first)] = first
            for unit in np.nonzero((found_of > 0) & (found_of < self.kept))[0]:
                row, found = images[unit, concept], found_of[unit]
                rest = first[~np.isin(first, row[:found])][: self.kept - found]
                row[found : found + len(rest)] = rest
        return images, self.scores.reshape(units, concepts, self.kept)
