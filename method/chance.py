"""What of the IoU of units and local concepts is chance (method.md §8.1 to §8.5 and §8.7).

Counts are exact integers, and all that is random is seeded by photographs and concepts' names (see
method.resampling), so nothing depends on the order of the images, on how units are cut into blocks or on threads.
"""

from dataclasses import dataclass, field

import numpy as np

from method.outlines import Outlines, counted_up
from method.resampling import halves, places, poisson_weights, seed_of
from method.segmentation import active_pixels, float32_floor
from method.significance import benjamini_hochberg, tail_p_values
from method.tally import iou

_MAPS_AT_ONCE = 8  # upsampled together, see method.segmentation
_ROWS_AT_ONCE = 4096  # active maps whose overlaps with all masks of a concept are held at a time
_INTERVAL = (2.5, 97.5)  # percentiles: 95 %

# Columns of the weights of images: each once, those of either half once, then the resamples.
_ALL, _HALF, _OTHER_HALF, _RESAMPLES = 0, 1, 2, 3


@dataclass(frozen=True)
class Chance:
    """How much of a layer's IoU is chance: what `<layer>_chance.npz` holds (method.md §8).

    U units, C concepts in concept order, B resamples. Unions are those of all images, whatever the report shows.
    iou, location_iou, excess, z, attainable: float64 (U, C); z is NaN without permutations. label: int16 (U,), the
    unit's own concept, argmax of iou, -1 for a unit whose IoU is 0 everywhere. p_label, p_unit, q: float64 (U,), NaN
    without permutations. heldout_iou: float64 (U,). label_holds: bool (U,). iou_low, iou_high, label_share,
    region_share: float64 (U,), NaN without resamples; a concept in no region counts as a region of its own.
    boot_concept: int16 (U, B), the top concept in each resample, -1 for none, and boot_iou: float32 (U, B), its IoU; B
    = 0 without resamples. boot_region_iou: float32 (U, R, B), the IoU in each resample of the R concepts that lie in a
    region, in concept order: the hierarchy's intervals need them. concepts: str (C,). map_size: int64 (2,),
    height and width of the maps. fingerprint: of what it was made from.
    """

    concepts: np.ndarray
    map_size: np.ndarray
    iou: np.ndarray
    location_iou: np.ndarray
    excess: np.ndarray
    z: np.ndarray
    attainable: np.ndarray
    label: np.ndarray
    p_label: np.ndarray
    p_unit: np.ndarray
    q: np.ndarray
    heldout_iou: np.ndarray
    label_holds: np.ndarray
    iou_low: np.ndarray
    iou_high: np.ndarray
    label_share: np.ndarray
    region_share: np.ndarray
    boot_concept: np.ndarray
    boot_iou: np.ndarray
    boot_region_iou: np.ndarray
    fingerprint: np.ndarray = field(default_factory=lambda: np.array(""))

    def confirmed(self, score_threshold, alpha):
        """Which units are confirmed detectors, see confirmed(). Returns bool (U,)."""
        return confirmed(self.iou.max(axis=1), self.q, self.p_label, self.map_size, score_threshold, alpha)


def confirmed(top_iou, q, p_label, map_size, score_threshold, alpha):
    """Which units are confirmed detectors (method.md §8.3). top_iou, q, p_label: float64 (..., U), NaN where not known,
    which confirms nothing. map_size: height and width of the maps. alpha: None confirms nothing. Returns bool (..., U).
    """
    if alpha is None or tuple(map_size) == (1, 1):
        return np.zeros(top_iou.shape, bool)
    return (top_iou > max(score_threshold, 0)) & (q <= alpha) & (p_label <= alpha)


@dataclass(frozen=True)
class ConceptMasks:
    """All masks of a concept on the counting grid. images: int (n,), ascending, which carry it. outlines: of n."""

    name: str
    region: str
    images: np.ndarray
    outlines: Outlines


@dataclass(frozen=True)
class ActiveMaps:
    """M_u(x) of the maps whose maximum is above the unit's threshold; all others are silent.

    unit, image: int (A,), by ascending image. outlines: of A.
    """

    unit: np.ndarray
    image: np.ndarray
    outlines: Outlines

    @classmethod
    def of(cls, maps, images, thresholds, grid):
        """maps: float32 (b, U, H, W). images: int (b,), ascending. thresholds: float64 (U,)."""
        peaks = maps.reshape(*maps.shape[:2], -1).max(axis=2)
        position, unit = np.nonzero(peaks > float32_floor(thresholds))
        parts = []
        for start in range(0, max(len(unit), 1), _MAPS_AT_ONCE):
            some = slice(start, start + _MAPS_AT_ONCE)
            parts.append(Outlines.of(active_pixels(maps[position[some], unit[some]], thresholds[unit[some]], grid)))
        return cls(unit, images[position], Outlines.joined(parts))

    @classmethod
    def joined(cls, parts):
        """parts: list, perhaps empty, by ascending images."""
        nothing = cls(np.zeros(0, int), np.zeros(0, int), Outlines.of(np.zeros((0, 1, 1), bool)))
        parts = [nothing, *parts]
        unit, image = (np.concatenate([getattr(part, name) for part in parts]) for name in ("unit", "image"))
        return cls(unit, image, Outlines.joined([part.outlines for part in parts]))

    @property
    def nbytes(self):
        """About the memory that they take."""
        return self.outlines.edges.nbytes + 3 * self.image.nbytes

    def of_units(self, units):
        """Those of some units, counted anew from the first. units: slice."""
        which = np.flatnonzero((self.unit >= units.start) & (self.unit < units.stop))
        return ActiveMaps(self.unit[which] - units.start, self.image[which], self.outlines.taken(which))

    def on(self, images):
        """Those of some images. images: int (n,). Returns (ActiveMaps, int (A,): the place of each one's image)."""
        places_of = np.full(max(self.image.max(initial=-1), images.max(initial=-1)) + 1, -1)
        places_of[images] = np.arange(len(images))
        which = np.flatnonzero(places_of[self.image] >= 0)
        some = ActiveMaps(self.unit[which], self.image[which], self.outlines.taken(which))
        return some, places_of[some.image]


class Chances:
    """How chance is drawn: the same for every layer and model (method.md §8.1, §8.3 to §8.5).

    digests: of P photographs, texts. photograph: int (N,), which of them each row shows, -1 for one that cannot be
    read. permutations: K. bootstraps: B. images: CHANCE_IMAGES, of a concept at most, on which significance is judged.
    seed: of the dealings and of that choice. K and B may be 0, which leaves out what is made from them.
    """

    def __init__(self, digests, photograph, permutations, bootstraps, images, seed):
        self.digests, self.photograph, self.permutations = digests, photograph, permutations
        self.bootstraps, self.images, self.seed = bootstraps, images, seed
        self.columns = _RESAMPLES + bootstraps
        self.places = places(digests, seed)[photograph]  # (N,)

    def weights(self, rows):
        """How often each row counts: once, in the first half once, in the other once, then in every resample.

        rows: n indices of readable ones. Drawn when asked: of a million rows they would fill 200 MB. Returns uint8
        (n, 3 + B).
        """
        digests = [self.digests[number] for number in self.photograph[rows]]
        half = halves(digests)
        once = np.stack([np.ones(len(rows), bool), half, ~half], axis=1).astype(np.uint8)
        return np.hstack([once, poisson_weights(digests, self.bootstraps)])

    def candidates(self, carries):
        """Among which rows chosen() chooses for a concept: those of the first photographs. carries: bool (N, C).

        Returns bool (N, C), nowhere True without permutations.
        """
        found = np.zeros_like(carries)
        for concept in range(carries.shape[1] if self.permutations else 0):
            rows = np.flatnonzero(carries[:, concept])
            ascending = np.unique(self.places[rows])
            found[rows, concept] = self.places[rows] <= ascending[: self.images].max(initial=0)
        return found

    def chosen(self, masks):
        """On which images of a concept significance is judged: int (n,), places in masks.images.

        One row of each photograph, in an order that does not depend on that of the rows: rows of one photograph are
        no independent images.
        """
        order = [int(place) for place in self.places[masks.images]]
        by_place, keys = {}, list(zip(order, masks.outlines.each(), strict=True))
        for index in sorted(range(len(keys)), key=keys.__getitem__):
            by_place.setdefault(order[index], index)
        return np.array(list(by_place.values())[: self.images], int)

    def dealings(self, name, count):
        """Which mask each image gets: int (count, K), a permutation in each column."""
        random = np.random.default_rng(seed_of("dealing", self.seed, name))
        dealt = random.permuted(np.tile(np.arange(count), (self.permutations, 1)), axis=1)
        return np.ascontiguousarray(dealt.T)


@dataclass(frozen=True)
class Pairs:
    """Some units and one concept.

    weighted_iou: float64 (U, 3 + B), under each column of Chances.weights, NaN for a half without the concept.
    location_iou, attainable: float64 (U,). dealt: Dealt, None without permutations.
    """

    weighted_iou: np.ndarray
    location_iou: np.ndarray
    attainable: np.ndarray
    dealt: object


@dataclass(frozen=True)
class Dealt:
    """z, p_label, excess: float64 (U,), of the masks as they are. drawn: float64 (U, K), the excess of each dealing."""

    z: np.ndarray
    p_label: np.ndarray
    excess: np.ndarray
    drawn: np.ndarray


def compare(counts, concept, units, dealt):
    """Some units and one concept. counts: WeightedCounts. concept: its number. units: slice of those in counts. dealt:
    see Pairs. Returns Pairs.
    """
    total = counts.unit_area[concept, units] + counts.mask_area[concept]
    intersection, images = counts.intersection[concept, units], counts.images[concept]
    areas = counts.unit_area[concept, units, _ALL], counts.mask_area[concept, _ALL]
    return Pairs(
        weighted_iou=np.where(_halves_without(images), np.nan, iou(intersection, total - intersection)),
        location_iou=location_level(counts.by_location[concept, units], total[:, _ALL], images[_ALL]),
        attainable=iou(np.minimum(*areas), np.maximum(*areas)),
        dealt=dealt,
    )


@dataclass(frozen=True)
class Counted:
    """Some units and one concept as the tally has counted them, whatever its rule. iou, total: float64 (U,), total the
    pixels of union and intersection. images: number of those that carry the concept.
    """

    iou: np.ndarray
    total: np.ndarray
    images: int


def compare_counted(counted, overlaps, count, dealt):
    """compare, of masks on some of a concept's images and with unions that the tally has counted on all that its rule
    counts: dealing out masks among the images that carry them changes what units and masks share, and no area. There
    are no resamples and no halves, for which areas would have to be counted anew.

    counted: see Counted. overlaps: (U,), see location_level. count: on how many images, perhaps none, as of a concept
    without a place, whose figures are NaN but for the IoU. dealt: see Pairs. Returns Pairs.
    """
    nothing = np.full(len(counted.iou), np.nan)
    weighted = np.stack([counted.iou, nothing, nothing], axis=1)
    if not count:
        return Pairs(weighted, nothing, nothing, None)
    return Pairs(
        weighted_iou=weighted,
        location_iou=location_level(overlaps, counted.total * (count / counted.images), count),
        attainable=nothing,
        dealt=dealt,
    )


def overlaps_by_location(active, units, masks, size):
    """Σ over all pairs of a map and a mask of the pixels that they share. active: ActiveMaps of units 0..units-1.
    masks: ConceptMasks. size: pixels P. Returns float64 (units,), whole numbers.
    """
    mine, _ = active.on(masks.images)
    by_location = mine.outlines.total(counted_up(masks.outlines.heights(size))[mine.outlines.edges])
    return np.bincount(mine.unit, by_location, units)


def _halves_without(images):
    """Which columns are a half that holds no image. images: (3 + B,), how many each holds. Returns bool (3 + B,)."""
    without = images == 0
    without[[_ALL, *range(_RESAMPLES, len(without))]] = False
    return without


def location_level(overlaps, total, count):
    """IoU if the masks were dealt out at random among the images (method.md §8.2).

    overlaps: (U,), Σ over all pairs of a map and a mask of the pixels that they share. total: (U,), Σ|M| + Σ|L|. count:
    images n. Returns float64 (U,).
    """
    # E[I] / (total - E[I]) with E[I] = overlaps / n; both sides times n are whole numbers.
    return iou(overlaps, count * total - overlaps)


def deal(active, units, masks, chances, size, counted=None):
    """How the overlaps of some units and one concept compare with those under random dealings (method.md §8.3).

    active: ActiveMaps of units 0..units-1. masks: ConceptMasks, from which Chances.chosen chooses. size: pixels P.
    counted: see compare_counted, None where the areas are those on the chosen images. Returns Dealt, None without
    permutations or masks.
    """
    if not chances.permutations or not len(masks.images):
        return None
    chosen = chances.chosen(masks)
    count = len(chosen)
    mine, mask_of = active.on(masks.images[chosen])
    outlines = masks.outlines.taken(chosen)
    inside = outlines.heights(size) > 0  # elsewhere nothing overlaps
    counts = _Dealer(units, outlines.within(inside), int(inside.sum()), chances.dealings(masks.name, count))
    counts.add(mine, mine.outlines.within(inside), mask_of)

    if counted is None:
        total = np.bincount(mine.unit, mine.outlines.areas(), units) + outlines.areas().sum()
    else:
        total = counted.total * (count / counted.images)
    expected = location_level(counts.sums, total, count)
    return Dealt(
        z=counts.z(),
        p_label=(1 + (counts.drawn >= counts.paired[:, None]).sum(axis=1)) / (chances.permutations + 1),
        excess=iou(counts.paired, total - counts.paired) - expected,
        drawn=iou(counts.drawn, total[:, None] - counts.drawn) - expected[:, None],
    )


class _Dealer:
    """Counts over the overlaps a(x, y) of every unit's maps with every mask of a concept, a few maps at a time.

    outlines: of n masks on a grid of size pixels. dealings: int (n, K). paired: (U,), the sum of a(x, x); drawn:
    (U, K), under each dealing; by_mask: (U, n), Σ_x a(x, y); sums, squares, row_squares: float64 (U,), Σ a, Σ a² and
    Σ_x (Σ_y a)².
    """

    def __init__(self, units, outlines, size, dealings):
        self.dealings, self.size, self.count = dealings, size, len(outlines)
        self.before = outlines.cumulative(size)
        # Sums of fewer than n * P pixels each.
        whole = np.int32 if len(outlines) * size < 1 << 31 else np.int64
        self.paired, self.by_mask = np.zeros(units, np.int64), np.zeros((units, self.count), whole)
        self.drawn = np.zeros((units, dealings.shape[1]), whole)
        self.sums, self.squares, self.row_squares = np.zeros((3, units))

    def add(self, active, outlines, mask_of):
        """active: ActiveMaps. outlines: theirs on the masks' grid. mask_of: int (A,), of each map's image."""
        order = np.argsort(mask_of, kind="stable")
        order = order[outlines.lengths[order] > 0]  # the others overlap with nothing
        outlines, unit, mask_of = outlines.taken(order), active.unit[order], mask_of[order]
        for start in range(0, len(order), _ROWS_AT_ONCE):
            some = slice(start, start + _ROWS_AT_ONCE)
            overlaps = outlines.part(start, min(start + _ROWS_AT_ONCE, len(order))).matrix(self.size) @ self.before
            self._add(overlaps, unit[some], mask_of[some])

    def _add(self, overlaps, unit, mask_of):
        units = len(self.sums)
        by_row = overlaps.sum(axis=1, dtype=np.int64)
        self.sums += np.bincount(unit, by_row, units)
        self.row_squares += np.bincount(unit, by_row.astype(np.float64) ** 2, units)
        self.squares += np.bincount(unit, np.einsum("ay,ay->a", overlaps, overlaps, dtype=np.float64), units)
        self.paired += np.bincount(unit, overlaps[np.arange(len(unit)), mask_of], units).astype(np.int64)
        begins = np.flatnonzero(np.diff(mask_of, prepend=-1))
        for begin, end in zip(begins, [*begins[1:], len(unit)], strict=True):  # of one image: each unit once
            self.by_mask[unit[begin:end]] += overlaps[begin:end]
            self.drawn[unit[begin:end]] += overlaps[begin:end].take(self.dealings[mask_of[begin]], axis=1)

    def z(self):
        """(I - E[I]) / sd, 0 where n < 2 or sd = 0. Returns float64 (U,)."""
        n = self.count
        column_squares = (self.by_mask.astype(np.float64) ** 2).sum(axis=1)
        # n² Σd² and n (I - E[I]) in whole numbers, so that nothing of a small difference is lost: exact while the sums
        # of squares stay below 2⁵³, as those of some thousand images at 128 px do.
        sums, squares, of_rows, of_columns, paired = (
            values.astype(np.int64).astype(object)
            for values in (self.sums, self.squares, self.row_squares, column_squares, self.paired)
        )
        spread = (n * n * squares - n * (of_rows + of_columns) + sums * sums).astype(np.float64)
        above = (n * paired - sums).astype(np.float64)
        deviation = np.sqrt(spread / max(n - 1, 1))
        return np.divide(above, deviation, out=np.zeros(len(above)), where=deviation > 0)


class UnitsChance:
    """Gathers what is chance in the IoU of some units, concept after concept in concept order."""

    def __init__(self, units, concepts, chances):
        columns, draws = chances.columns, chances.permutations
        self.of_pairs = {
            name: np.full((units, concepts), np.nan) for name in ("iou", "location_iou", "z", "attainable")
        }
        self.resampled = []  # IoU of concept after concept in the resamples
        self.top, self.top_concept = np.zeros((units, columns)), np.full((units, columns), -1, np.int16)
        self.own = np.zeros((units, columns))  # IoU of the concept that is the unit's over all images
        self.heldout = np.zeros((units, 2))  # IoU on the other half of the concept that is a half's
        self.p_label = np.full(units, 1.0 if draws else np.nan)
        self.excess, self.drawn = np.full(units, -np.inf), np.full((units, draws), -np.inf)

    def add(self, concept, pairs):
        """concept: its number. pairs: Pairs."""
        found = pairs.weighted_iou
        self.of_pairs["iou"][:, concept] = found[:, _ALL]
        self.of_pairs["location_iou"][:, concept] = pairs.location_iou
        self.of_pairs["attainable"][:, concept] = pairs.attainable
        self.resampled.append(found[:, _RESAMPLES:].astype(np.float32))
        better = found > self.top  # an equal one comes later in concept order
        self.top[better], self.top_concept[better] = found[better], concept
        self.own[better[:, _ALL]] = found[better[:, _ALL]]
        for half, (here, there) in enumerate(((_HALF, _OTHER_HALF), (_OTHER_HALF, _HALF))):
            self.heldout[better[:, here], half] = found[better[:, here], there]
        if pairs.dealt is not None:
            self.of_pairs["z"][:, concept] = pairs.dealt.z
            self.p_label[better[:, _ALL]] = pairs.dealt.p_label[better[:, _ALL]]
            np.maximum(self.excess, pairs.dealt.excess, out=self.excess)
            np.maximum(self.drawn, pairs.dealt.drawn, out=self.drawn)
        else:
            self.p_label[better[:, _ALL]] = np.nan

    def result(self, regions):
        """The arrays of Chance over these units, q left out: dict. regions: C texts, empty for none."""
        label, boot = self.top_concept[:, _ALL], self.top_concept[:, _RESAMPLES:]
        resampled = boot.shape[1] > 0
        # A concept in no region, and no concept, is a region of its own.
        names = np.array([*(region or index for index, region in enumerate(regions)), -1], object)
        has = (label >= 0)[:, None]
        low, high = np.percentile(self.own[:, _RESAMPLES:], _INTERVAL, axis=1) if resampled else self._nothing(2)
        same, near = (boot == label[:, None]) & has, (names[boot] == names[label][:, None]) & has
        label_share, region_share = (part.mean(axis=1) for part in (same, near)) if resampled else self._nothing(2)
        first, second = self.top_concept[:, _HALF], self.top_concept[:, _OTHER_HALF]
        return {
            **self.of_pairs, "excess": self.of_pairs["iou"] - self.of_pairs["location_iou"],
            "label": label, "p_label": self.p_label, "p_unit": self._p_unit(),
            "heldout_iou": self.heldout.mean(axis=1), "label_holds": (first == second) & (first >= 0),
            "iou_low": low, "iou_high": high, "label_share": label_share, "region_share": region_share,
            "boot_concept": boot, "boot_iou": self.top[:, _RESAMPLES:].astype(np.float32),
            "boot_region_iou": self._of_regions(regions),
        }  # fmt: skip

    def _of_regions(self, regions):
        inside = [of_concept for of_concept, region in zip(self.resampled, regions, strict=True) if region]
        return np.stack(inside, axis=1) if inside else np.zeros((len(self.top), 0, self.resampled[0].shape[1]), "f4")

    def _p_unit(self):
        return tail_p_values(self.excess, self.drawn) if self.drawn.shape[1] else self._nothing(1)[0]

    def _nothing(self, count):
        return np.full((count, len(self.top)), np.nan)


def chance_of(parts, concepts, map_size):
    """The Chance of a layer. parts: list of what UnitsChance.result gives, unit after unit. concepts: C names."""
    arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    given = {"concepts": np.array(concepts), "map_size": np.array(map_size), "q": benjamini_hochberg(arrays["p_unit"])}
    return Chance(**{**arrays, **given})
