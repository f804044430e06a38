"""Chance of local concepts: plain loops, order and blocks, and worlds in which the truth is known (method.md §8)."""

from math import sqrt

import numpy as np
import pytest
from scipy.stats import genpareto

import feature_operation
from method.chance import Chance, Chances, ConceptMasks, UnitsChance, chance_of, compare, deal
from method.outlines import Outlines
from method.resampling import halves, places, poisson_weights
from method.significance import benjamini_hochberg, tail_p_values
from method.tally import Labels
from method.weighted_counts import WeightedCounts
from tests import plain_reference
from tests.test_tally import Case, random_maps, tallied
from util.packing import pack
from util.ranks import ALONE

SIDE = 16  # of the worlds' grid


def chances_of(digests, *options, **named):
    """Chances of rows whose photographs have these digests."""
    known, photograph = np.unique(digests, return_inverse=True)
    return Chances(known.tolist(), photograph, *options, **named)


def counted(active, masks, chances):
    """WeightedCounts of units whose active pixels are given. The rest: see chance."""
    images, units, *grid = active.shape
    heights = np.array([pixels.sum(axis=0).ravel() for _, pixels in masks.values()])
    counts = WeightedCounts(np.full(units, 0.5), slice(0, units), heights, chances, np.ones(images, bool), 1 << 30)
    for image in range(images):
        found = {index: pixels[carriers == image] for index, (carriers, pixels) in enumerate(masks.values())}
        concepts = [index for index, of_image in found.items() if len(of_image)]
        if concepts:
            bits = pack(np.concatenate([found[index] for index in concepts]))
            labels = Labels(np.array(concepts), bits, tuple(grid))
            counts.add(counts.measure(active[image, None].astype(np.float32), np.array([image]), [labels]))
    counts.merge(ALONE)
    return counts


def chance(active, masks, digests, *, permutations=200, bootstraps=0, images=512, seed=0, regions=None):
    """Chance of units whose active pixels are given. active: bool (N, U, R, C). masks: {concept: (int (n,) images,
    bool (n, R, C))}.
    """
    chances = chances_of(digests, permutations, bootstraps, images, seed)
    regions, units = regions or [""] * len(masks), active.shape[1]
    counts, gathered = counted(active, masks, chances), UnitsChance(units, len(masks), chances)
    for index, (name, (carriers, pixels)) in enumerate(masks.items()):
        concept = ConceptMasks(name, regions[index], carriers, Outlines.of(pixels))
        dealt = deal(counts.active, units, concept, chances, active.shape[2] * active.shape[3])
        gathered.add(index, compare(counts, index, slice(0, units), dealt))
    return chance_of([gathered.result(regions)], list(masks), (4, 4))


def assert_same(one, other):
    for name in Chance.__dataclass_fields__:
        assert getattr(one, name).tobytes() == getattr(other, name).tobytes(), name


# ---------------------------------------------------------------------------------------------------------- plain loops


def divided(one, other):
    return one / other if other else 0.0


class Plain:
    """The same as loops over images, pairs, dealings and resamples. masks: per image {concept: bool (R, C)}."""

    def __init__(self, active, masks, concepts, digests, options, regions):
        self.active, self.masks, self.concepts, self.digests, self.regions = active, masks, concepts, digests, regions
        self.chances = chances_of(digests, **options)

    def carriers(self, concept):
        return [image for image, of_image in enumerate(self.masks) if concept in of_image]

    def overlap(self, unit, image, concept, other):
        return int((self.active[image, unit] & self.masks[other][concept]).sum())

    def iou(self, unit, concept, weight=lambda image: 1):
        inside = either = 0
        for image in self.carriers(concept):
            inside += weight(image) * self.overlap(unit, image, concept, image)
            either += weight(image) * int((self.active[image, unit] | self.masks[image][concept]).sum())
        return divided(inside, either)

    def top(self, unit, weight=lambda image: 1):
        found = [self.iou(unit, concept, weight) for concept in self.concepts]
        return (found.index(max(found)), max(found)) if max(found) > 0 else (-1, 0.0)

    def areas(self, unit, concept, images):
        return sum(int(self.active[i, unit].sum()) + int(self.masks[i][concept].sum()) for i in images)

    def location(self, unit, concept, images):
        pairs = sum(self.overlap(unit, x, concept, y) for x in images for y in images)
        return divided(pairs, len(images) * self.areas(unit, concept, images) - pairs)

    def chosen(self, concept):
        """One row of each photograph in the order of its place, the first ones."""
        first = {}
        for image in self.carriers(concept):
            edges = Outlines.of(self.masks[image][concept][None]).edges.tobytes()
            key = int(self.chances.places[image])
            first[key] = min(first.get(key, (edges, image)), (edges, image))
        return [first[key][1] for key in sorted(first)][: self.chances.images]

    def dealt(self, unit, concept):
        """(I, [I of each dealing], z, excess, [excess of each dealing])."""
        images = self.chosen(concept)
        total, expected = self.areas(unit, concept, images), self.location(unit, concept, images)
        overlaps = np.array([[self.overlap(unit, x, concept, y) for y in images] for x in images])
        dealings = self.chances.dealings(concept, len(images)).T
        inside = [sum(int(overlaps[x, y]) for x, y in enumerate(deal)) for deal in [range(len(images)), *dealings]]
        excess = [divided(shared, total - shared) - expected for shared in inside]
        centred = overlaps - overlaps.mean(0) - overlaps.mean(1)[:, None] + overlaps.mean()
        variance = (centred**2).sum() / (len(images) - 1) if len(images) > 1 else 0
        z = (inside[0] - overlaps.sum() / len(images)) / sqrt(variance) if variance > 1e-9 else 0
        return inside[0], inside[1:], z, excess[0], excess[1:]

    def of_unit(self, unit):
        label, _ = self.top(unit)
        draws = self.chances.permutations
        dealt = [self.dealt(unit, concept) for concept in self.concepts]
        best = max(of_pair[3] for of_pair in dealt)
        drawn = [max(of_pair[4][k] for of_pair in dealt) for k in range(draws)]
        weights = poisson_weights(self.digests, self.chances.bootstraps).astype(int).T
        tops = [self.top(unit, weight.__getitem__) for weight in weights]
        first, second = (self.top(unit, half.__getitem__) for half in self.halves())
        own = [self.iou(unit, self.concepts[label], weight.__getitem__) if label >= 0 else 0.0 for weight in weights]
        heldout = [
            (self.iou(unit, self.concepts[found], half.__getitem__) if self.carried(found, half) else np.nan)
            if found >= 0 else 0.0
            for (found, _), half in zip((first, second), reversed(self.halves()), strict=True)
        ]  # fmt: skip
        reached = sum(of_dealing >= dealt[label][0] for of_dealing in dealt[label][1]) if label >= 0 else draws
        near = [label >= 0 and found >= 0 and self.region(found) == self.region(label) for found, _ in tops]
        return {
            "iou": [self.iou(unit, concept) for concept in self.concepts],
            "location_iou": [self.location(unit, concept, self.carriers(concept)) for concept in self.concepts],
            "z": [of_pair[2] for of_pair in dealt], "label": label,
            "attainable": [self.attainable(unit, concept) for concept in self.concepts],
            "p_label": (1 + reached) / (draws + 1),
            "p_unit": tail_p_values(np.array([best]), np.array([drawn]))[0],
            "heldout_iou": sum(heldout) / 2, "label_holds": first[0] == second[0] >= 0,
            "iou_low": np.percentile(own, 2.5), "iou_high": np.percentile(own, 97.5),
            "label_share": np.mean([label >= 0 and found == label for found, _ in tops]),
            "region_share": np.mean(near),
            "boot_concept": [found for found, _ in tops], "boot_iou": np.float32([found for _, found in tops]),
        }  # fmt: skip

    def carried(self, concept, half):
        """Whether any image of a half carries a concept, by its number."""
        return any(half[image] for image in self.carriers(self.concepts[concept]))

    def halves(self):
        half = halves(self.digests)
        return [half.astype(int), (~half).astype(int)]

    def region(self, concept):
        return self.regions[concept] or concept

    def attainable(self, unit, concept):
        images = self.carriers(concept)
        sizes = [sum(int(self.active[i, unit].sum()) for i in images)]
        sizes.append(sum(int(self.masks[i][concept].sum()) for i in images))
        return divided(min(sizes), max(sizes))


def assert_equals_plain(found, plain):
    for unit in range(plain.active.shape[1]):
        for name, expected in plain.of_unit(unit).items():
            got = getattr(found, name)[unit]
            if name == "z":
                assert np.allclose(got, expected, atol=1e-9), (unit, got, expected)
            else:
                assert np.array_equal(got, expected, equal_nan=name == "heldout_iou"), (unit, name, got, expected)
    assert np.array_equal(found.excess, found.iou - found.location_iou)
    assert np.array_equal(found.q, benjamini_hochberg(found.p_unit))


@pytest.mark.parametrize("images", [512, 4])
def test_equals_plain_loops(tmp_path, images):
    case = Case(tmp_path, random_maps(14, 6, 4, 4), seed=2)
    case.maps[:, 5] = 1.0  # a silent unit
    operator, features = case.operator(), case.features()
    tally = tallied(operator, features, operator.quantile_threshold(features, 0.1))
    thresholds = tally.thresholds
    options = {"permutations": 40, "bootstraps": 9, "images": images, "seed": 3}
    found = operator.chance({"layer": (features, tally)}, **options)["layer"]

    active = np.array([
        [plain_reference.upsample(one, case.grid).astype(np.float64) > limit
         for one, limit in zip(of_image, thresholds, strict=True)] for of_image in case.maps
    ])  # fmt: skip
    dictionary = case.dictionary
    masks = [
        {name: plain_reference.resize_mask(mask, case.grid) for name, mask in of_image.items()}
        for of_image in case.masks
    ]
    digests = [dictionary.digest_of(row) for row in dictionary.rows]
    regions = [concept.region or "" for concept in dictionary.concepts]
    assert len(set(filter(None, regions))) < len(regions)
    plain = Plain(active, masks, list(dictionary.names), digests, options, regions)
    assert_equals_plain(found, plain)
    assert found.label[5] == -1
    assert found.label_share[:5].min() < 1  # or the shares are not tested
    assert found.map_size.tolist() == [4, 4]


def test_unit_with_photographs_in_several_rows_equals_plain_loops():
    active, masks, digests = duplicated()
    options = {"permutations": 30, "bootstraps": 5, "images": 512, "seed": 0}
    by_image = [{} for _ in digests]
    for name, (carriers, pixels) in masks.items():
        for image, mask in zip(carriers, pixels, strict=True):
            by_image[image][name] = mask
    found = chance(active, masks, digests, permutations=30, bootstraps=5)
    assert_equals_plain(found, Plain(active, by_image, list(masks), digests, options, [""] * len(masks)))


def duplicated():
    """Random pixels on 20 rows of 12 photographs. Rows of one photograph have the same maps, and masks of their own."""
    random = np.random.default_rng(4)
    photograph = np.concatenate([np.arange(12), random.integers(0, 12, 8)])
    active = (random.random((12, 5, 8, 8)) > 0.8)[photograph] & (random.random((12, 5, 1, 1)) > 0.3)[photograph]
    masks = {}
    for name in ("a", "b", "c"):
        carriers = np.flatnonzero(random.random(20) > 0.3)
        masks[name] = (carriers, random.random((len(carriers), 8, 8)) > 0.6)
    return active, masks, [f"photograph {number}" for number in photograph]


def test_the_order_of_the_rows_changes_nothing():
    active, masks, digests = duplicated()
    options = {"permutations": 50, "bootstraps": 5, "images": 8}
    reference = chance(active, masks, digests, **options)
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(digests))  # row i comes from row order[i]
        place = np.argsort(order)
        moved = {}
        for name, (carriers, pixels) in masks.items():
            ascending = np.argsort(place[carriers])
            moved[name] = (place[carriers][ascending], pixels[ascending])
        assert_same(chance(active[order], moved, [digests[index] for index in order], **options), reference)


def test_batches_blocks_and_workers_change_nothing(tmp_path, monkeypatch):
    case = Case(tmp_path, random_maps(23, 7, 4, 4))
    features = case.features()
    operator = case.operator()
    tally = tallied(operator, features, operator.quantile_threshold(features, 0.05))

    def found(**options):
        layers = dict.fromkeys(("one", "other"), (features, tally))
        both = case.operator(**options).chance(layers, permutations=30, bootstraps=4, images=6)
        assert_same(both["one"], both["other"])
        return both["one"]

    reference = found()
    monkeypatch.setattr("method.chance._ROWS_AT_ONCE", 5)
    monkeypatch.setattr(feature_operation, "_FIRST_UNITS", 2)
    monkeypatch.setattr(feature_operation, "_OUTLINE_BYTES", 400)
    for options in ({"tally_batch_size": 1, "workers": 0}, {"tally_batch_size": 50, "workers": 5}, {"workers": 1}):
        assert_same(found(**options), reference)


def test_the_worked_example_of_the_method():
    active = np.array([[[[1, 1, 0, 0]]], [[[0, 0, 1, 1]]]], bool)
    masks = {"mouth": (np.arange(2), np.array([[[0, 1, 1, 0]], [[0, 0, 1, 1]]], bool))}
    found = chance(active, masks, ["one", "other"])
    assert (found.iou[0, 0], found.location_iou[0, 0], found.attainable[0, 0]) == (3 / 5, 2 / 6, 1)


def test_other_seeds_deal_otherwise_and_resample_alike():
    active, masks, digests = duplicated()
    one, other = (chance(active, masks, digests, bootstraps=5, seed=seed) for seed in (0, 1))
    assert not np.array_equal(one.p_unit, other.p_unit)
    assert np.array_equal(one.boot_iou, other.boot_iou)


def test_what_is_left_out():
    active, masks, digests = duplicated()
    found = chance(active, masks, digests, permutations=0)
    whole = chance(active, masks, digests, bootstraps=3)
    for name in ("z", "p_label", "p_unit", "q", "iou_low", "iou_high", "label_share", "region_share"):
        assert np.isnan(getattr(found, name)).all(), name
        assert not np.isnan(getattr(whole, name)).any(), name
    for name in ("iou", "location_iou", "attainable", "heldout_iou", "label_holds"):
        assert np.array_equal(getattr(found, name), getattr(whole, name)), name
    assert found.boot_iou.shape == found.boot_concept.shape == (5, 0)
    assert not found.confirmed(0, 1).any()
    assert whole.confirmed(0, 1).any()


# ------------------------------------------------------------------------------------------------------------ the parts


def test_outlines_count_like_pixels():
    random = np.random.default_rng(0)
    pixels = random.random((70, 5, 7)) > np.linspace(0, 1, 70)[:, None, None]
    pixels[3], pixels[4] = True, False
    flat, outlines = pixels.reshape(70, 35), Outlines.of(pixels)
    assert outlines.areas().tolist() == flat.sum(1).tolist()
    assert outlines.heights(35).tolist() == flat.sum(0).tolist()
    before = np.concatenate([np.zeros((70, 1)), flat.cumsum(1)], axis=1)
    assert np.array_equal(outlines.cumulative(35), before.T)
    assert np.array_equal(outlines.matrix(35) @ outlines.cumulative(35), flat.astype(int) @ flat.T.astype(int))
    kept = random.random(35) > 0.4
    assert np.array_equal(outlines.within(kept).cumulative(kept.sum()).T[:, -1], flat[:, kept].sum(1))
    which = np.array([9, 3, 4, 9])
    assert np.array_equal(outlines.taken(which).areas(), flat[which].sum(1))
    assert Outlines.of(np.ones((1, 256, 256), bool)).areas() == 1 << 16  # more than 16 bits


def test_weights_and_halves_belong_to_photographs():
    digests = [f"{number:x}" for number in range(4000)]
    weights, half = poisson_weights(digests, 50), halves(digests)
    assert weights.dtype == np.uint8 and weights.shape == (4000, 50)
    some = [7, 3, 7]
    assert np.array_equal(poisson_weights([digests[index] for index in some], 50), weights[some])
    assert np.array_equal(halves([digests[index] for index in some]), half[some])
    assert weights.mean() == pytest.approx(1, abs=0.01) and weights.var() == pytest.approx(1, abs=0.02)
    assert np.abs(np.corrcoef(weights[:, :10].T) - np.eye(10)).max() < 0.08
    assert half.mean() == pytest.approx(0.5, abs=0.03)
    assert len(set(places(digests, 0).tolist())) == 4000
    assert np.argsort(places(digests, 0)).tolist() != np.argsort(places(digests, 1)).tolist()


def test_benjamini_hochberg_is_what_it_is_defined_as():
    random = np.random.default_rng(0)
    p_values = np.round(random.random(60) ** 3, 2)
    q_values = benjamini_hochberg(p_values)
    for alpha in np.linspace(0, 1, 211):
        # The largest k with p_(k) <= alpha k / m: the tests with the k smallest p-values are found.
        found = [k for k, p in enumerate(sorted(p_values), 1) if p <= alpha * k / 60]
        largest = sorted(p_values)[found[-1] - 1] if found else -1
        assert np.array_equal(q_values <= alpha + 1e-12, p_values <= largest), alpha
    assert benjamini_hochberg(np.array([[0.01, np.nan], [0.04, 0.03]])).tolist()[1] == [0.04, 0.04]
    assert not len(benjamini_hochberg(np.zeros(0)))


def test_a_tail_is_that_of_scipy_where_few_draws_reach():
    random = np.random.default_rng(1)
    drawn = np.stack([random.pareto(4, 1000), random.random(1000), random.integers(0, 3, 1000), np.zeros(1000)])
    p_values = tail_p_values(np.array([20.0, 3.0, 9.0, 1.0]), drawn)
    ascending = np.sort(drawn[0])
    beyond = ascending[-250:] - ascending[-251]
    shape, _, scale = genpareto.fit(beyond, floc=0)
    assert shape > 0
    assert p_values[0] == pytest.approx(0.25 * genpareto.sf(20 - ascending[-251], shape, 0, scale), rel=1e-2)
    start, *beyond = np.sort(drawn[1])[-251:]  # ends at 1
    assert p_values[1] == pytest.approx(0.25 * np.exp(-(3 - start) / (np.mean(beyond) - start)))
    assert p_values[2:].tolist() == [1 / 1001, 1 / 1001]  # nothing but ties: no tail
    assert tail_p_values(np.array([np.sort(drawn[0])[-10]]), drawn[:1])[0] == 11 / 1001
    assert tail_p_values(np.array([1e9]), drawn[1:2])[0] > 0


# ----------------------------------------------------------------------------------------------------------- the worlds


def squares(centres, half_side):
    """Squares on the grid, cut at its rim. centres: int (..., 2), row and column. Returns bool (..., SIDE, SIDE)."""
    near = np.abs(np.arange(SIDE) - centres[..., None]) <= half_side
    return near[..., 0, :, None] & near[..., 1, None, :]


class World:
    """Faces that stand a little elsewhere in each image: masks and noisy units that move with them, and know no more.

    images: N. units: that are noisy, each active on a share of the images. sizes: on how many images each concept is.
    """

    def __init__(self, seed, *, images=120, units=30, share=0.3, sizes=(120,) * 6):
        self.random, self.images = np.random.default_rng(seed), images
        self.digests = [f"{seed} {image}" for image in range(images)]
        self.faces = self.random.integers(-2, 3, (images, 2))
        at = self.random.integers(3, 13, (1, units, 2)) + self.faces[:, None] + self.jitter(images, units, 2)
        self.active = squares(at, 2) & (self.random.random((images, units)) < share)[:, :, None, None]
        self.masks = {}
        for number, size in enumerate(sizes):
            carriers = np.sort(self.random.permutation(images)[:size])
            places = self.random.integers(4, 12, 2) + self.faces[carriers] + self.jitter(size, 2)
            self.masks[f"concept {number}"] = (carriers, squares(places, 2))

    def jitter(self, *shape):
        return self.random.integers(-1, 2, shape)

    def deal(self, jointly):
        """Shuffle the masks among the images, of each concept by itself or with all that an image has."""
        order = self.random.permutation(self.images)
        for name, (carriers, pixels) in self.masks.items():
            if jointly:
                by_image = np.argsort(order[carriers])
                self.masks[name] = (order[carriers][by_image], pixels[by_image])
            else:
                self.masks[name] = (carriers, self.random.permutation(pixels))
        return self

    def add_unit(self, pixels):
        """pixels: bool (N, SIDE, SIDE). Returns the new unit's number."""
        self.active = np.concatenate([self.active, pixels[:, None]], axis=1)
        return self.active.shape[1] - 1

    def follow(self, name, share=0.6):
        """Add a unit that fires on a share of a concept's images, a pixel beside its place, and on some others."""
        carriers, masks = self.masks[name]
        pixels = squares(self.random.integers(3, 13, (self.images, 2)), 2)
        pixels &= (self.random.random(self.images) < 0.1)[:, None, None]
        fires = self.random.random(len(carriers)) < share
        moved = np.roll(masks, 1, axis=2) & fires[:, None, None]
        pixels[carriers[fires]] = moved[fires]
        return self.add_unit(pixels)

    def chance(self, permutations=1000, **options):
        return chance(self.active, self.masks, self.digests, permutations=permutations, **options)


@pytest.mark.parametrize(
    ("jointly", "options", "least"),
    [
        (False, {}, 0.04),
        (True, {}, 0),
        (False, {"share": 0.02, "images": 300, "sizes": (300,) * 4}, 0.04),  # on 6 images of 300: many ties
        (False, {"sizes": (120, 120, 120, 120, 20, 20)}, 0.04),
        # Of 5 masks a unit active on 2 of the images sees 20 dealings apart: ties, which make p larger.
        (False, {"sizes": (120, 120, 120, 120, 5, 5)}, 0),
    ],
    ids=["each", "jointly", "silent", "rare", "very rare"],
)
def test_shuffled_masks_are_as_significant_as_chance_allows(jointly, options, least):
    found = [World(seed, **options).deal(jointly).chance(permutations=400) for seed in range(100)]
    shares = np.array([(of_world.p_unit <= 0.05).mean() for of_world in found])
    assert shares.std() / sqrt(len(shares)) <= 0.005  # units of a world share its masks
    assert least <= shares.mean() <= 0.06
    assert np.mean([of_world.confirmed(0, 0.05).any() for of_world in found]) <= 0.08


def test_shuffled_masks_make_detectors_by_their_iou_alone():
    found = World(0).deal(jointly=False).chance()
    assert np.mean(found.iou.max(axis=1) > 0.04) > 0.5


def test_units_that_follow_a_concept_are_confirmed_and_named():
    world = World(0, units=20).deal(jointly=False)
    followers = {world.follow(name): index for index, name in enumerate(world.masks)}
    found = world.chance(bootstraps=50)
    confirmed = found.confirmed(0.04, 0.05)
    for unit, concept in followers.items():
        assert confirmed[unit] and found.label[unit] == concept and found.label_holds[unit]
        assert found.label_share[unit] > 0.9
        assert found.iou_low[unit] < found.iou[unit, concept] < found.iou_high[unit]
        assert found.heldout_iou[unit] == pytest.approx(found.iou[unit, concept], abs=0.05)
    assert confirmed[:20].sum() <= 2  # one in twenty of what is confirmed may be chance


def test_a_lone_good_unit_among_many_noisy_ones_is_confirmed():
    world = World(1, units=511, share=0.1, sizes=(120,) * 5).deal(jointly=False)
    unit = world.follow("concept 2")
    found = world.chance()
    assert found.confirmed(0.04, 0.05)[unit] and found.label[unit] == 2
    assert found.confirmed(0.04, 0.05).sum() <= 2
    counted_alone = benjamini_hochberg(np.maximum(found.p_unit, 1 / 1001))
    assert counted_alone[unit] > 0.05  # without the tail it would not be


def test_a_good_unit_of_98_images_beside_concepts_with_5_is_confirmed():
    world = World(2, sizes=(98, 5, 5, 5)).deal(jointly=False)
    unit = world.follow("concept 0")
    found = world.chance()
    assert found.confirmed(0.04, 0.05)[unit] and found.label[unit] == 0


def test_a_unit_always_active_in_one_place_is_not_confirmed():
    world = World(3, sizes=(120, 60))
    carriers, _ = world.masks["concept 0"]
    world.masks["concept 0"] = (carriers, squares(np.full((120, 2), 8) + world.jitter(120, 2) // 2, 3))
    unit = world.add_unit(squares(np.full((120, 2), 8), 3))
    found = world.chance()
    assert found.iou[unit, 0] > 0.6 and found.label[unit] == 0
    assert found.excess[unit, 0] == found.z[unit, 0] == 0
    assert found.p_label[unit] == found.p_unit[unit] == 1
    assert not found.confirmed(0.04, 0.05)[unit]


def test_units_of_maps_without_places_are_never_confirmed():
    world = World(0)
    unit = world.follow("concept 0")
    found = world.chance()
    assert found.confirmed(0.04, 0.05)[unit]
    found.map_size[:] = 1
    assert not found.confirmed(0.04, 0.05).any()
