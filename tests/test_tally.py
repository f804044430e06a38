"""The fast tally against the plain reference, on real files, with everything that makes such programs go wrong."""

import threading

import numpy as np
import pytest

from dictionary.dictionary import open_dictionary
from dictionary.face_format import INDEX_FILES
from dictionary.rows import Problem
from feature_operation import FeatureOperator
from method.tally import BestImages, Tally, TallyStatistic
from store.feature_file import FeatureMaps
from tests import plain_reference
from tests.conftest import DictionaryMaker

CONCEPTS = ("AU_1", "AU_12", "nose", "mouth", "Smiling")


class Case:
    """A dictionary with random masks and a memory map of given activations, ready for the operator."""

    def __init__(self, folder, maps, *, grid=(12, 12), seed=0, masks=None):
        random = np.random.default_rng(seed)
        self.folder, self.maps, self.grid = folder, np.asarray(maps, np.float32), grid
        maker = DictionaryMaker(folder / "dictionary")
        self.masks = [] if masks is None else masks
        for number in range(len(maps)):
            if masks is None:
                height, width = random.integers(9, 20, 2)
                carried = random.choice(CONCEPTS, random.integers(1, 4), replace=False)
                self.masks.append({str(name): random.random((height, width)) > 0.6 for name in carried})
            height, width = next(iter(self.masks[number].values())).shape
            image = random.integers(0, 256, (height, width, 3), np.uint8)
            maker.add(image, self.masks[number], INDEX_FILES[number * 3 // len(maps)])
        self.dictionary = open_dictionary(maker.write(), memory_folder=folder, workers=0)

    def operator(self, **options):
        return FeatureOperator(
            None, self.dictionary, grid=self.grid, **{"workers": 2, "tally_batch_size": 3, **options}
        )

    def features(self, dtype="float32"):
        """The given activations as a memory map."""
        stored = self.maps.astype(dtype)
        stored[~self.dictionary.usable] = np.nan
        stored.tofile(self.folder / "maps")
        return FeatureMaps(self.folder / "maps", self.maps.shape, dtype, self.dictionary.usable)

    def fast(self, quantile=0.1, iou_union="all", dtype="float32", **options):
        operator, features = self.operator(**options), self.features(dtype)
        return tallied(operator, features, operator.quantile_threshold(features, quantile), iou_union)

    def plain(self, quantile=0.1):
        masks = [
            of_image if usable else None for of_image, usable in zip(self.masks, self.dictionary.usable, strict=True)
        ]
        return plain_reference.dissect(self.maps, masks, list(self.dictionary.names), quantile, self.grid)


def tallied(operator, features, thresholds, iou_union="all"):
    """The Tally of one layer."""
    dictionary = operator.dictionary
    statistic = TallyStatistic(thresholds, dictionary.concepts, dictionary.carries, iou_union)
    return operator.tally({"layer": (features, [statistic])})["layer"][0]


def assert_equal(fast, plain):
    """Every array of the fast path equals the plain one exactly."""
    for name, expected in plain.items():
        assert np.array_equal(getattr(fast, name), expected), name


def random_maps(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(
    ("shape", "grid"),
    [
        ((7, 5, 4, 4), (12, 12)),
        ((7, 3, 5, 3), (11, 11)),
        ((7, 3, 5, 3), (14, 9)),
        ((4, 1, 4, 4), (12, 12)),
        ((1, 4, 6, 6), (9, 9)),
        ((1, 1, 1, 1), (8, 8)),
        ((5, 2, 13, 13), (7, 7)),
    ],
)
def test_equals_the_plain_reference(tmp_path, shape, grid):
    case = Case(tmp_path, random_maps(*shape), grid=grid)
    assert_equal(case.fast(), case.plain())


def test_equals_the_plain_reference_for_rectified_maps_with_ties(tmp_path):
    case = Case(tmp_path, np.maximum(np.round(random_maps(9, 6, 4, 4) * 2), 0))
    assert_equal(case.fast(quantile=0.05), case.plain(quantile=0.05))


def test_constant_units_are_silent(tmp_path):
    maps = random_maps(5, 4, 4, 4)
    maps[:, 0], maps[:, 1], maps[:, 2] = 0, 3.3, -1e-20
    case = Case(tmp_path, maps)
    fast = case.fast()
    assert_equal(fast, case.plain())
    assert not fast.tally[:3].any()


def test_empty_masks_and_silent_units_give_zero_not_nan(tmp_path):
    masks = [{"nose": np.zeros((10, 10), bool), "mouth": np.eye(10, dtype=bool)}, {"nose": np.zeros((9, 10), bool)}]
    maps = random_maps(2, 3, 4, 4)
    maps[:, 2] = 1.0
    case = Case(tmp_path, maps, masks=masks)
    fast = case.fast()
    assert_equal(fast, case.plain())
    assert fast.tally[2, list(fast.concepts).index("nose")] == 0


def test_images_left_out_count_nowhere(tmp_path):
    case = Case(tmp_path, random_maps(6, 3, 4, 4))
    bad = [Problem("Attributes.csv", "as planted", row) for row in (1, 4)]
    case.dictionary = case.dictionary.without(bad, skip_bad=True)
    fast = case.fast()
    assert_equal(fast, case.plain())
    assert not np.isin(fast.maps, [1, 4]).any()


def test_equal_scores_are_ordered_by_image_index_beyond_the_images_kept(tmp_path):
    masks = [{"nose": np.eye(8, dtype=bool)} for _ in range(30)]
    case = Case(tmp_path, np.tile(random_maps(1, 2, 4, 4), (30, 1, 1, 1)), masks=masks, grid=(8, 8))
    fast = case.fast()
    assert_equal(fast, case.plain())
    assert fast.maps[0, 0].tolist() == list(range(20))


def test_best_images_do_not_depend_on_the_order_in_which_they_come():
    random = np.random.default_rng(5)
    scores = random.integers(0, 9, (40, 6)) / 9  # of image and pair; 0 where they do not touch
    results = []
    for order in (range(40), random.permutation(40), range(39, -1, -1)):
        best = BestImages(2, 3, kept=5)
        for image in order:
            pairs = np.flatnonzero(scores[image])
            best.add(pairs, scores[image, pairs], image)
        results.append(best.result([range(40)] * 3))
    expected = [sorted(zip(-scores[:, pair], range(40), strict=True))[:5] for pair in range(6)]
    for found, found_scores in results:
        assert found.reshape(6, 5).tolist() == [[image for _, image in row] for row in expected]
        assert found_scores.reshape(6, 5).tolist() == [[-score for score, _ in row] for row in expected]


def test_batches_workers_and_threads_change_nothing(tmp_path):
    case = Case(tmp_path, random_maps(23, 5, 4, 4))
    reference = case.fast()
    for options in ({"tally_batch_size": 1, "workers": 0}, {"tally_batch_size": 50, "workers": 5}, {"workers": 1}):
        again = case.fast(**options)
        for name in Tally.__dataclass_fields__:
            assert getattr(again, name).tobytes() == getattr(reference, name).tobytes(), (options, name)


def test_the_union_of_active_images_leaves_silent_ones_out(tmp_path):
    case = Case(tmp_path, random_maps(9, 4, 2, 2))
    plain = case.plain(quantile=0.05)
    fast = case.fast(quantile=0.05, iou_union="active")
    expected = np.divide(
        plain["intersection"], plain["union_active"], where=plain["union_active"] > 0, out=np.zeros((4, 5))
    )
    assert np.array_equal(fast.tally, expected)
    assert (plain["union_active"] < plain["union"]).any()
    assert str(fast.iou_union) == "active"
    with pytest.raises(ValueError, match="all, active"):
        case.fast(quantile=0.05, iou_union="some")


def test_half_precision_is_tallied_as_stored(tmp_path):
    case = Case(tmp_path, random_maps(5, 3, 4, 4))
    fast = case.fast(dtype="float16")
    case.maps = case.maps.astype(np.float16).astype(np.float32)
    assert_equal(fast, case.plain())


def test_grey_masks_are_cut_at_the_segmentation_threshold(tmp_path):
    grey = np.full((12, 12), 100, np.uint8)
    grey[0, :] = np.arange(12) * 2  # soft edges: more levels than a label image has
    grey[1, :] = np.arange(12) * 2 + 1
    grey[2, 0] = 250
    case = Case(tmp_path, random_maps(1, 1, 4, 4), masks=[{"nose": grey}])
    for threshold, pixels in ((0.3, 120), (0.5, 1)):
        case.dictionary.seg_threshold = threshold
        assert case.dictionary.masks(case.dictionary.rows[0], (12, 12))[1].sum() == pixels
        tally = tallied(case.operator(), case.features(), np.array([np.inf]))
        assert tally.union.tolist() == [[pixels]]


def test_an_error_in_a_thread_surfaces(tmp_path, monkeypatch):
    case = Case(tmp_path, random_maps(8, 2, 4, 4))

    def broken(*_):
        assert threading.current_thread() is not threading.main_thread()
        raise RuntimeError("as planted")

    monkeypatch.setattr("dictionary.face_format.load_mask", broken)
    with pytest.raises(RuntimeError, match="as planted"):
        case.fast()


def test_a_map_of_the_wrong_size_is_refused(tmp_path):
    (tmp_path / "maps").write_bytes(b"1234")
    with pytest.raises(Exception, match=r"has 4 bytes, but \(1, 1, 2, 1\) of float32 are 8"):
        FeatureMaps(tmp_path / "maps", (1, 1, 2, 1), "float32", np.ones(1, bool))
