"""Counting how units and concepts overlap, over images in any order and any batches (method.md §3.4).

All counts are integers and ranks are decided by (score, image index), so the result does not depend on how the images
were cut into batches or which thread counted them.
"""

from dataclasses import dataclass, field, fields
from typing import NamedTuple

import numpy as np

from method.segmentation import count_overlap, count_pixels, float32_floor, packed_active_pixels
from util.packing import unpack

IMAGES_KEPT = 20  # K: best images kept per unit and concept

UNIONS = ("all", "active")
# On which images the area of a unit counts against a concept: those that carry it; those with any label of its category
# (method.md §10); or, of these, those where the unit touches a label of the category or one holds for the whole image.
IMAGES = ("concept", "category", "touched")


@dataclass(frozen=True)
class Tally:
    """How well each unit of a layer matches each concept: what `<layer>_tally.npz` holds.

    U units, C concepts of the dictionary in concept order, K = 20 images kept per pair.
    tally: float64 (U, C), IoU in 0..1. maps: int64 (U, C, K), image indices, best first, -1 where none. scores: float64
    (U, C, K), their IoU within that image. intersection, union, union_active: int64 (U, C), pixels. concepts, types,
    regions: str (C,), a region is empty where a concept lies in none. carries: bool (N, C), which image carries which
    concept; False throughout for one that was left out. thresholds: float64 (U,). iou_union: which union tally divides
    by, 'all' or 'active'. map_size: int64 (2,), height and width of the maps. fingerprint: of what it was made from.
    images: of IMAGES, the rule of counting; by others than 'concept' union_active is union. covered: int64 (C,), |L_c|.
    whole: bool (C,), concepts that hold for whole images and have no place in them.
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
    images: np.ndarray = field(default_factory=lambda: np.array("concept"))
    covered: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    whole: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    fingerprint: np.ndarray = field(default_factory=lambda: np.array(""))


class Labels(NamedTuple):
    """What is annotated in an image. concepts: int (m,), indices of those with a mask. bits: uint64 (m, words), the
    masks packed (see util.packing.pack). grid: (rows, columns), on which its pixels are counted. whole: int (w,), of
    those that hold for the whole image.
    """

    concepts: np.ndarray
    bits: np.ndarray
    grid: tuple
    whole: np.ndarray = np.zeros(0, int)

    @property
    def masks(self):
        """bool (m, rows, columns)."""
        return unpack(self.bits, self.grid)

    @property
    def all(self):
        return np.concatenate([self.concepts, self.whole])


class TallyStatistic:
    """Tallies the IoU of every unit and concept (method.md §3.3, §3.4 and §10).

    A statistic of the pass over the maps: measure(maps, images, labels) in any thread, add(measured) in any order,
    merge(ranks) where the processes of a run have their shares of the images, result() at the end. thresholds: float64
    (U,), T_u. concepts: C concepts of the dictionary, in order. carries: bool (N, C), which image carries which.
    iou_union: see UNIONS. images: see IMAGES.
    """

    def __init__(self, thresholds, concepts, carries, iou_union="all", images="concept"):
        for name, value, known in (("iou_union", iou_union, UNIONS), ("images", images, IMAGES)):
            if value not in known:
                raise ValueError(f"{name} is {value!r}: it must be one of {', '.join(known)}")
        self.thresholds, self.concepts, self.carries = thresholds, concepts, carries
        self.iou_union, self.images = iou_union, images
        self.map_size = (0, 0)
        types = list(dict.fromkeys(concept.type for concept in concepts))
        self.type_of = np.array([types.index(concept.type) for concept in concepts], int)
        # The columns of unit areas: concepts, or categories.
        self.column_of = np.arange(len(concepts)) if images == "concept" else self.type_of
        self.counts = self._zero()
        self.best = BestImages(len(thresholds), len(concepts))

    def _zero(self):
        return Counts.zero(len(self.thresholds), len(self.concepts), self.column_of.max(initial=-1) + 1)

    def measure(self, maps, images, labels):
        """Count some images. maps: float32 (b, U, H, W). images: b indices. labels: b Labels.

        Returns (Counts, candidates): candidates of each image are the pairs that touch, as arrays (pair, score) where
        pair is unit * C + concept and score the IoU within that image, and the image.
        """
        self.map_size = maps.shape[2:]  # the same in every thread
        counts = self._zero()
        # A map whose maximum is not above the threshold has no active pixel (see segmentation.upsample): only the few
        # others, about one in twelve for a 4x4 map at the 0.5 % quantile, are upsampled at all.
        peaks = maps.reshape(*maps.shape[:2], -1).max(axis=2)
        position, unit = np.nonzero(peaks > float32_floor(self.thresholds))
        bounds = np.searchsorted(position, np.arange(len(images) + 1))
        candidates = []
        for index, of_image in enumerate(labels):
            carried = of_image.all
            if not len(carried):
                continue
            units = unit[bounds[index] : bounds[index + 1]]
            active = packed_active_pixels(maps[index, units], self.thresholds[units], of_image.grid)
            masks, size = of_image.bits, of_image.grid[0] * of_image.grid[1]
            area = count_pixels(active)
            # What holds for the whole image is counted from areas alone.
            mask_area = np.concatenate([count_pixels(masks), np.full(len(of_image.whole), size)])
            local = count_overlap(active, masks)  # (A, m)
            overlap = np.concatenate([local, np.repeat(area[:, None], len(of_image.whole), axis=1)], axis=1)
            at = np.ix_(units, carried)
            counts.intersection[at] += overlap
            counts.mask_area[carried] += mask_area
            counts.active_mask_area[at] += mask_area * (area > 0)[:, None]
            columns, counted = self._counted(of_image, overlap)
            counts.unit_area[np.ix_(units, columns)] += area[:, None] * counted
            touching = np.nonzero(overlap)
            pairs = units[touching[0]] * len(self.concepts) + carried[touching[1]]
            scores = iou(overlap, area[:, None] + mask_area - overlap)[touching]
            candidates.append((pairs, scores, images[index]))
        return counts, candidates

    def _counted(self, labels, overlap):
        """Against which columns of unit areas the active units of an image count. overlap: int (A, m + w) of them and
        the image's concepts. Returns int (k,), bool (A or 1, k).
        """
        columns = np.unique(self.column_of[labels.all])
        if self.images != "touched":
            return columns, True
        touched = np.zeros((len(overlap), self.column_of.max() + 1), bool)
        for place, concept in enumerate(labels.all):
            touched[:, self.column_of[concept]] |= overlap[:, place] > 0
        touched[:, self.column_of[labels.whole]] = True
        return columns, touched[:, columns]

    def add(self, measured):
        counts, candidates = measured
        self.counts.add(counts)
        for pairs, scores, image in candidates:
            self.best.add(pairs, scores, image)

    def merge(self, ranks):
        """Put together what the processes of a run have counted, each on its share. ranks: util.ranks.Ranks."""
        names = [part.name for part in fields(self.counts)]
        self.counts = Counts(*ranks.summed(*(getattr(self.counts, name) for name in names)))
        for map_size, best in ranks.others((self.map_size, self.best)):  # each as large as this one's
            self.map_size = max(self.map_size, map_size)  # (0, 0) of a process without images
            self.best.merge(best)

    def result(self):
        """Returns Tally."""
        counts = self.counts
        best, scores = self.best.result([np.flatnonzero(column) for column in self.carries.T])
        union, union_active = (counts.union(self.column_of, of) for of in (counts.mask_area, counts.active_mask_area))
        if self.images != "concept":
            union_active = union
        return Tally(
            tally=iou(counts.intersection, union_active if self.iou_union == "active" else union),
            maps=best,
            scores=scores,
            intersection=counts.intersection,
            union=union,
            union_active=union_active,
            concepts=np.array([concept.name for concept in self.concepts]),
            types=np.array([concept.type for concept in self.concepts]),
            regions=np.array([concept.region or "" for concept in self.concepts]),
            carries=self.carries,
            thresholds=self.thresholds,
            iou_union=np.array(self.iou_union),
            map_size=np.array(self.map_size),
            images=np.array(self.images),
            covered=counts.mask_area,
            whole=np.array([concept.whole for concept in self.concepts], bool),
        )


@dataclass
class Counts:
    """Pixel counts over some images. U units, C concepts, K columns: concepts or categories.

    intersection: int64 (U, C), of M_u and L_c. unit_area: int64 (U, K), of M_u over the images that count against a
    column. mask_area: int64 (C,), of L_c. active_mask_area: int64 (U, C), of L_c where M_u is not empty.
    """

    intersection: np.ndarray
    unit_area: np.ndarray
    mask_area: np.ndarray
    active_mask_area: np.ndarray

    @classmethod
    def zero(cls, units, concepts, columns):
        shape = (units, concepts)
        return cls(np.zeros(shape, int), np.zeros((units, columns), int), np.zeros(concepts, int), np.zeros(shape, int))

    def add(self, other):
        for part in fields(self):
            total = getattr(self, part.name)
            total += getattr(other, part.name)

    def union(self, column_of, mask_area):
        """|M_u ∪ L_c| of all images that count, int64 (U, C). column_of: int (C,), the column of each concept.

        mask_area: of L_c, one of the two. With that where M_u is not empty, images on which the unit is silent do not
        count, as the published program has it.
        """
        return self.unit_area[:, column_of] + mask_area - self.intersection


def iou(intersection, union):
    """intersection / union, float64, with 0/0 = 0. int64 arrays of one shape."""
    return np.divide(intersection, union, out=np.zeros(np.shape(union)), where=np.asarray(union) > 0)


class BestImages:
    """The K images with the highest single-image IoU of every (unit, concept) pair; ties: the lower image index."""

    def __init__(self, units, concepts, kept=IMAGES_KEPT):
        self.shape, self.kept = (units, concepts), kept
        self.images = np.full((units * concepts, kept), -1)
        self.scores = np.zeros((units * concepts, kept))

    def add(self, pairs, scores, image):
        """Offer an image. pairs: int (n,), unit * C + concept, each once. scores: float64 (n,), above 0."""
        better = scores >= self.scores[pairs, -1]
        pairs, scores = pairs[better], scores[better, None]
        held, images = self.scores[pairs], self.images[pairs]  # (n, K)
        before = ((held > scores) | ((held == scores) & (images < image))).sum(axis=1)[:, None]
        places = np.arange(self.kept)
        # Those behind its place move back by one, the last of them out.
        of = np.maximum(places - (places > before), 0)
        self.scores[pairs] = np.where(places == before, scores, np.take_along_axis(held, of, axis=1))
        self.images[pairs] = np.where(places == before, image, np.take_along_axis(images, of, axis=1))

    def merge(self, other):
        """Take in the best of other images."""
        scores = np.concatenate([self.scores, other.scores], axis=1)
        images = np.concatenate([self.images, other.images], axis=1)
        # An empty place has the score 0, and every image one above it.
        order = np.lexsort((images, -scores))[:, : self.kept]
        self.scores, self.images = (np.take_along_axis(of, order, axis=1) for of in (scores, images))

    def result(self, carriers):
        """The best images, best first. carriers: per concept the indices of the images that carry it, ascending.

        Images whose IoU is 0 follow in the order of their index, as far as there is room: every image that carries the
        concept has a rank. Returns (images, scores): int64 and float64 (U, C, K), -1 and 0 where no image is left.
        """
        units, concepts = self.shape
        images = self.images.reshape(units, concepts, self.kept)
        for concept, indices in enumerate(carriers):
            # A row that holds k images lacks K - k, and at most k of the first K carriers stand in it: these suffice.
            first, rows = np.asarray(indices[: self.kept], int), images[:, concept]  # (F,), (U, K), a view
            absent = (rows[:, None, :] != first[:, None]).all(axis=2)  # (U, F)
            place = (rows >= 0).sum(axis=1)[:, None] + absent.cumsum(axis=1) - 1
            unit, of = np.nonzero(absent & (place < self.kept))
            rows[unit, place[unit, of]] = first[of]
        return images, self.scores.reshape(units, concepts, self.kept)
