"""Operations that several processes share give the same bytes as one, whoever has which part of images and units."""

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import feature_operation
from benchmarks.synthetic_broden import make_broden
from dictionary.file_memory import Digests, FileFacts
from feature_operation import FeatureOperator
from tests.test_broden import maps_of, opened
from tests.test_broden import tallied as counted_by
from tests.test_tally import Case, random_maps, tallied
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
def test_chance_presence_formulas_and_plain_labels(case, size, small, monkeypatch):
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
