"""Operations that several processes share give the same bytes as one, whoever has which part of images and units."""

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

import feature_operation
from benchmarks.synthetic_broden import make_broden
from dictionary.faces import Face, find_faces, search_faces
from dictionary.file_memory import Digests, FileFacts
from dictionary.views import WHOLE
from feature_operation import FeatureOperator
from store.bias_stages import peaks_of, resamples_of
from tests.test_broden import maps_of, opened
from tests.test_broden import tallied as counted_by
from tests.test_tally import Case, random_maps, tallied
from util.files import digest
from util.ranks import Ranks


class ThreadRanks(Ranks):
    """Ranks that are threads of this process, and hand each other copies as processes do. meeting: of all of them."""

    def __init__(self, rank, meeting):
        self.rank, self.size, self._meeting = rank, meeting.size, meeting

    def _all(self, value):
        return [pickle.loads(other) for other in self._meeting.exchange(self.rank, pickle.dumps(value))]

    def shared(self, value):
        return self._all(value)[0]

    def gathered(self, value):
        values = self._all(value)
        return values if self.first else None

    def others(self, value):
        yield from (self.gathered(value) or [])[1:]

    def summed(self, *arrays):
        return [sum(of_ranks) for of_ranks in zip(*self._all(arrays), strict=True)]


class Meeting:
    """Where all ranks leave a value and wait for those of the others."""

    def __init__(self, size):
        self.size, self.barrier, self._values = size, threading.Barrier(size, timeout=60), [None] * size

    def exchange(self, rank, value):
        self._values[rank] = value
        self.barrier.wait()
        values = list(self._values)
        self.barrier.wait()
        return values


def together(size, run):
    """What the first of some ranks gets. run: function of Ranks."""
    meeting = Meeting(size)

    def one(rank):
        try:
            return run(ThreadRanks(rank, meeting))
        except threading.BrokenBarrierError:
            return None  # another one has failed, and says why
        except BaseException:
            meeting.barrier.abort()
            raise

    with ThreadPoolExecutor(size) as threads:
        return list(threads.map(one, range(size)))[0]


def assert_same(found, expected):
    for name, values in vars(expected).items():
        assert getattr(found, name).tobytes() == values.tobytes(), name


@pytest.fixture
def case(tmp_path):
    """Random maps and masks of 23 rows, of which some show the same photograph, and one cannot be used."""
    case = Case(tmp_path, random_maps(23, 7, 4, 4), seed=5)
    same, digests = {4: 3, 21: 3, 12: 11}, Digests()
    for row in range(23):
        image, *masks = case.dictionary.digests.of(row)
        image = case.dictionary.digests.image(same.get(row, row))
        digests.append([FileFacts((), None, digest) for digest in (image, *masks)])
        case.maps[row] = case.maps[same.get(row, row)]
    case.dictionary.digests = digests
    case.dictionary.usable[8] = False
    return case


@pytest.mark.parametrize("size", [2, 3, 9])  # the last more than there are units
@pytest.mark.parametrize("small", [False, True], ids=["kept", "in blocks"])
@pytest.mark.parametrize("unusable", [[], range(13)], ids=["all", "second half"])
def test_chance_presence_formulas_and_plain_labels(case, size, small, unusable, monkeypatch):
    case.dictionary.usable[list(unusable)] = False
    features = case.features()
    tally = tallied(case.operator(), features, case.operator().quantile_threshold(features, 0.05))
    units = np.flatnonzero(tally.tally.max(axis=1) > 0)
    assert len(units) > 4

    def run(ranks):
        operator = case.operator(ranks=ranks)
        layers = {"one": (features, tally), "other": (features, tally)}
        asked = {"one": (features, tally.thresholds, tally.tally, units)}
        chance = operator.chance(layers, permutations=30, bootstraps=6, images=6)
        presence = operator.presence({"one": features})
        return chance, presence, operator.formulas(asked, 3), operator.find_wider_concepts()

    chance, presence, formulas, wider = run(feature_operation.ALONE)
    if small:
        monkeypatch.setattr(feature_operation, "_OUTLINE_BYTES", 400)
        monkeypatch.setattr(feature_operation, "_FIRST_UNITS", 1)
        monkeypatch.setattr(feature_operation, "_COUNTS_BYTES", 3000)
        monkeypatch.setattr(feature_operation, "_PEAKS_AT_ONCE", 50)
        monkeypatch.setattr("method.weighted_counts._WAITING", 10)
        monkeypatch.setattr("store.peaks_file._WAITING_BYTES", 100)
    found = together(size, run)
    for layer in chance:
        assert_same(found[0][layer], chance[layer])
    assert_same(found[1]["one"], presence["one"])
    assert_same(found[2]["one"], formulas["one"])
    assert np.array_equal(found[3], wider)


@pytest.mark.parametrize("images", ["concept", "category"])
def test_chance_of_many_labels(tmp_path, images):
    make_broden(tmp_path / "broden", 30, labels=70, side=64, seed=1, mixed_grids=True)
    dictionary = opened(tmp_path / "broden", tmp_path)
    features, _ = maps_of(dictionary, tmp_path)
    tally = counted_by(FeatureOperator(None, dictionary, grid=(64, 64)), features, np.full(5, 1.0), images)

    def run(ranks):
        operator = FeatureOperator(None, dictionary, grid=(64, 64), ranks=ranks)
        found = operator.chance({"one": (features, tally)}, permutations=30, bootstraps=0, images=8)
        return found, operator.presence({"one": features})

    expected = run(feature_operation.ALONE)
    for found, of_one in zip(together(3, run), expected, strict=True):
        assert_same(found["one"], of_one["one"])


@pytest.mark.parametrize("size", [2, 3, 9])  # the last more than there are batches
def test_peaks_and_resamples_of_bias(tmp_path, lenet, size):
    models, random = [lenet(weights="random", seed=3) for _ in range(size)], np.random.default_rng(1)
    paths = [f"{number}.png" for number in range(17)]
    for path in paths:
        cv2.imwrite(str(tmp_path / path), random.integers(0, 256, (40, 40, 3), np.uint8))
    config = SimpleNamespace(BATCH_SIZE=3, WORKERS=1, DICTIONARY=tmp_path)
    digests = [digest(path.encode()) for path in paths]

    def run(ranks):
        model = models[ranks.rank]
        peaks = peaks_of(ranks, config, model, list(model.layers), paths, [WHOLE] * len(paths), "test")
        features = {layer: of.features({"a": 8, "b": 9}) for layer, of in ranks.shared(peaks).items()}
        return features, [resamples_of(ranks, of, digests, 20, "mean") for of in features.values()]

    (features, resamples), (expected, of_one) = together(size, run), run(feature_operation.ALONE)
    assert len(resamples) == len(of_one) == len(models[0].layers)
    for layer, of in expected.items():
        for name, values in of.arrays().items():
            assert features[layer].arrays()[name].tobytes() == values.tobytes(), (layer, name)
    for found, all_ in zip(resamples, of_one, strict=True):
        assert [of.tobytes() for of in found] == [of.tobytes() for of in all_]


@pytest.mark.parametrize("size", [2, 3])
def test_faces_are_looked_for_by_all_and_kept(tmp_path, monkeypatch, size):
    """Made-up faces: their box is the first pixel, and dark pictures have none."""
    images, looked_at = [], []
    for number in range(7):
        path = f"{number}.png"
        cv2.imwrite(str(tmp_path / path), np.full((40, 40, 3), 30 * number, np.uint8))
        images.append((path, digest((tmp_path / path).read_bytes())))

    def find(photograph):
        value = float(photograph[0, 0, 0])
        looked_at.append(value)
        points = tuple((value, float(point)) for point in range(5))
        return Face((value, 1.0, 30.0, 30.0), points, (40, 40)) if value else None

    monkeypatch.setattr("dictionary.faces.face_finder", lambda device: find)

    def searched(ranks):
        return search_faces(ranks, tmp_path, tmp_path / "cache", images, "cpu", 0)

    def known():
        return list(find_faces(tmp_path, 7, lambda place: images[place][0], lambda place: images[place][1],
                               tmp_path / "cache", "cpu", 0, search=False))  # fmt: skip

    found = list(together(size, searched))
    assert [face and face.box[0] for face in found] == [None, *(30.0 * number for number in range(1, 7))]
    assert sorted(looked_at) == [30.0 * number for number in range(7)]  # each once
    assert known() == found


@pytest.mark.parametrize("unusable", [[], range(12), range(20)], ids=["all", "second half", "last three"])
def test_thresholds_and_best_images(case, unusable, monkeypatch):
    case.dictionary.usable[list(unusable)] = False
    features = case.features()

    def run(ranks):
        operator = case.operator(ranks=ranks)
        thresholds = operator.quantile_threshold(features, 0.05)
        return thresholds, tallied(operator, features, thresholds)

    thresholds, tally = run(feature_operation.ALONE)
    monkeypatch.setattr(feature_operation, "_BLOCK_BYTES", 1)
    assert run(feature_operation.ALONE)[0].tobytes() == thresholds.tobytes()
    for size in (2, 3, 30):
        found = together(size, run)
        assert found[0].tobytes() == thresholds.tobytes()
        assert_same(found[1], tally)
