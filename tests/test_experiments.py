"""The experiments: rotated bases and swept cut-offs, against plain loops and what main.py counts itself."""

import csv
import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from experiments import dissected, rotation, sweep
from experiments.dissected import Dissected
from feature_operation import FeatureOperator
from method.chance import Chance
from method.evidence import Evidence
from method.findings import Findings
from method.outcome import Outcome
from method.rotation import Rotation, prediction_interval, random_rotation, rotate
from method.tally import Tally
from store.arrays import load_arrays, load_as
from store.layer import LayerStore
from tests import plain_reference
from tests.test_tally import CONCEPTS, Case
from util.errors import DissectionError

# ----------------------------------------------------------------------------------------------- rotations, as numbers


@pytest.mark.parametrize("units", [1, 2, 5, 16, 33])
def test_powers_of_a_rotation_are_rotations_that_multiply(units):
    whole = random_rotation(units, 3)
    powers = {power: whole.power(power) for power in (0, 0.25, 0.5, 0.75, 1)}
    assert np.array_equal(powers[0], np.eye(units))
    for matrix in powers.values():
        assert np.abs(matrix @ matrix.T - np.eye(units)).max() < 1e-12
        assert abs(np.linalg.det(matrix) - 1) < 1e-12
    assert np.abs(powers[1] - whole.matrix).max() < 1e-12
    assert np.abs(powers[0.5] @ powers[0.5] - whole.matrix).max() < 1e-12
    assert np.abs(powers[0.25] @ powers[0.5] - powers[0.75]).max() < 1e-12
    assert np.array_equal(random_rotation(units, 3).matrix, whole.matrix)
    assert units == 1 or np.abs(random_rotation(units, 4).matrix - whole.matrix).max() > 0.1


def test_half_a_turn_is_shared_by_two_units():
    half = Rotation(np.diag([1.0, -1, -1, 1])).power(0.5)
    assert np.abs(half @ half - np.diag([1.0, -1, -1, 1])).max() < 1e-12
    assert np.abs(np.abs(half[1:3, 1:3]) - [[0, 1], [1, 0]]).max() < 1e-12
    quarter = Rotation(np.array([[0.0, -1], [1, 0]])).power(0.5)
    assert np.abs(quarter - np.sqrt(0.5) * np.array([[1, -1], [1, 1]])).max() < 1e-12


def test_rotations_are_drawn_from_the_haar_measure():
    drawn = np.stack([random_rotation(3, seed).matrix for seed in range(3000)])
    # Every entry of a rotation of three dimensions is uniform on -1..1: sd 0.577, of its square 0.298.
    assert np.abs(drawn.mean(axis=0)).max() < 4 * 0.577 / np.sqrt(3000)
    assert np.abs((drawn**2).mean(axis=0) - 1 / 3).max() < 4 * 0.298 / np.sqrt(3000)
    traces = np.trace(drawn, axis1=1, axis2=2)  # 1 + 2 cos of the angle, whose density is (1 - cos) / pi
    assert abs((traces**2).mean() - 1) < 0.1 and abs(traces.mean()) < 0.08


def test_the_interval_of_one_more_count():
    # 2 t(0.975, 2) sd sqrt(4/3) with mean 11, sd 2: 11 -+ 4.30265 * 2 * 1.1547
    assert np.allclose(prediction_interval([9, 11, 13]), (11 - 9.9366, 11 + 9.9366), atol=1e-3)
    assert np.allclose(prediction_interval([4, 4, 4]), (4 - 2.4842, 4 + 2.4842), atol=1e-3)


# ---------------------------------------------------------------------------------- one layer, against plain loops


@pytest.fixture
def case(tmp_path):
    random = np.random.default_rng(5)
    return Case(tmp_path, random.standard_normal((9, 4, 5, 5)))


def layer_of(case, quantile=0.1, **options):
    config = SimpleNamespace(QUANTILE=quantile, SCORE_THRESHOLD=0.04, ALPHA=0.05, PERMUTATIONS=20, CHANCE_IMAGES=None)
    store = LayerStore(case.folder, "case_layer", {"iou_union": "all", "images": "concept"})
    return Dissected(config, case.operator(**options), store, case.features(), own=None, twins=[])


def same(one, other):
    return all(np.array_equal(getattr(one, name), getattr(other, name), equal_nan=True) for name in vars(one))


def test_a_rotated_basis_is_dissected_like_any_layer(case):
    matrix = random_rotation(4, 1).power(0.5)
    maps = np.zeros(case.maps.shape, np.float32)
    for image in range(len(maps)):
        for unit in range(4):
            total = sum(matrix[unit, of] * case.maps[image, of].astype(np.float64) for of in range(4))
            maps[image, unit] = total.astype(np.float32)
    assert np.array_equal(rotate(matrix, case.maps), maps)
    concepts = list(case.dictionary.names)
    assert set(concepts) == set(CONCEPTS)
    plain = plain_reference.dissect(maps, case.masks, concepts, 0.1, case.grid)
    outcome = rotation.outcome_in(layer_of(case), matrix)
    assert np.array_equal(outcome.top_iou, plain["tally"].max(axis=1))
    assert np.array_equal(outcome.label, plain["tally"].argmax(axis=1))
    assert np.isfinite(outcome.q).all() and not list(case.folder.glob(".*rotated*"))
    assert same(outcome, rotation.outcome_in(layer_of(case, workers=0, tally_batch_size=8), matrix))


def test_the_rotated_maps_go_even_when_the_study_fails(case):
    layer = layer_of(case)

    def fail():
        with rotation.rotated_maps(layer.maps, np.eye(4), layer.store) as maps:
            assert np.array_equal(maps.read(0, 9), case.maps)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not list(case.folder.glob(".*rotated*"))


def test_images_that_were_left_out_stay_left_out(tmp_path, case):
    case.dictionary.usable[4] = False
    layer = layer_of(case)
    with rotation.rotated_maps(layer.maps, random_rotation(4, 0).matrix, layer.store) as maps:
        read = maps.read(0, 9)
    assert np.isnan(read[4]).all() and np.isfinite(np.delete(read, 4, axis=0)).all()


def outcome_of(detectors, confirmed):
    """An Outcome of 20 units, so many of which are detectors of as many concepts, and so many confirmed."""
    top = np.where(np.arange(20) < detectors, 0.5, 0)
    q = np.where(np.arange(20) < confirmed, 0.01, 0.9)
    label = np.where(top > 0, np.arange(20), -1)
    return Outcome(top, label, top, label, q, np.full(20, 0.01), np.array([5, 5]))


@pytest.mark.parametrize(
    ("own", "rotated", "permutations", "verdict"),
    [
        ((12, 12), [(12, 3), (12, 4), (12, 5)], 10, "special: more of them are confirmed detectors"),
        ((12, 5), [(3, 3), (4, 4), (5, 5)], 10, "any direction would do, as far as confirmed detectors tell"),
        ((12, 0), [(3, 0), (4, 0), (5, 0)], 0, "special: more of them are detectors"),
        ((3, 0), [(12, 8), (12, 9), (12, 10)], 10, "worse than any direction: fewer of them are confirmed"),
    ],
)
def test_the_verdict_follows_from_the_counts(own, rotated, permutations, verdict):
    config = SimpleNamespace(SCORE_THRESHOLD=0.04, ALPHA=0.05, PERMUTATIONS=permutations)
    layer = Dissected(config, None, None, SimpleNamespace(units=20), outcome_of(*own), [outcome_of(2, 1)])
    outcomes = {(0, None): layer.own, **{(1, seed): outcome_of(*of) for seed, of in enumerate(rotated)}}
    first, *told, twins = rotation.sentences(layer, outcomes)
    assert verdict in first and len(told) == (4 if permutations else 2)
    listed = ", ".join(str(of[0]) for of in rotated)
    assert told[0].startswith(f"detectors: {own[0]} of the network's own 20 units, {listed} in 3 random rotations")
    assert twins.startswith("untrained twins: detectors 2; confirmed detectors 1; unique detectors 2")


# --------------------------------------------------------------------------------------------------- from end to end

FAST = {
    "QUANTILE": 0.05,
    "TWINS": 1,
    "PERMUTATIONS": 300,
    "BOOTSTRAPS": 5,
    "TOPN": 1,
    "SCORE_THRESHOLD": 0.02,
    "ALPHA": 0.1,
}
ROTATED = ("_rotation.csv", "_rotation_concepts.csv")
SWEPT = ("_sweep.csv", "_sweep_labels.csv")


@pytest.fixture
def squares(dictionary_maker):
    """A dictionary of dark pictures with a bright square each, the left eye, and masks that follow nothing."""
    random = np.random.default_rng(11)
    for _ in range(20):
        image = cv2.resize(random.integers(0, 120, (6, 5, 3), np.uint8), (48, 48))
        masks = {name: np.zeros((48, 48), bool) for name in ("left_eye", "nose", "mouth")}
        for mask in masks.values():
            top, left = random.integers(0, 34, 2)
            mask[top : top + 14, left : left + 14] = True
        image[masks["left_eye"]] = 255
        dictionary_maker.add(image, masks)
    return dictionary_maker.write()


@pytest.fixture
def study(tmp_path, monkeypatch, run_main, no_pdfs):
    """A function that runs a study on what main.py left, with settings; study.dissect runs main.py with them."""
    monkeypatch.setattr(rotation, "ROTATIONS", {0.5: 1, 1: 3})
    monkeypatch.setattr(sweep, "QUANTILES", (0.02, 0.05, 0.1))

    def run(script, **words):
        defaults = {
            "TASK": "onet", "LAYER_NAME": "layer3", "INPUT_SIZE": 48, "DICTIONARY": tmp_path / "dictionary",
            "OUTPUT_FOLDER": tmp_path / "result", "CACHE_FOLDER": tmp_path / "cache",
            "PLOT_FOLDER": tmp_path / "plots", **FAST,
        }  # fmt: skip
        monkeypatch.setattr(sys, "argv", ["script", *(f"{key}={of}" for key, of in {**defaults, **words}.items())])
        script.main()
        return tmp_path / "result"

    run.dissect = lambda **words: run_main(**{**FAST, **words})
    return run


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def own_counts(result, score_threshold=FAST["SCORE_THRESHOLD"], alpha=FAST["ALPHA"]):
    """What main.py itself counts."""
    findings = Findings(load_as(Tally, result / "onet_layer3_tally.npz"), score_threshold)
    evidence = Evidence.of_arrays(load_arrays(result / "onet_layer3_chance.npz"), None, score_threshold, alpha)
    detectors, confirmed = findings.detectors, int(evidence.confirmed.sum())
    return [str(of) for of in (detectors, confirmed, findings.unique_detectors, evidence.confirmed_unique)]


def counts_in(row):
    return [row[name] for name in ("detectors", "confirmed", "unique", "confirmed_unique")]


def calls_of(monkeypatch):
    """A list that grows by a word for every tally and every chance that is computed."""
    calls = []
    for name in ("tally", "chance"):
        method = getattr(FeatureOperator, name)

        def counted(self, *arguments, _method=method, _name=name, **options):
            calls.append(_name)
            return _method(self, *arguments, **options)

        monkeypatch.setattr(FeatureOperator, name, counted)
    return calls


def test_rotation_from_end_to_end(squares, study, monkeypatch, capsys, tmp_path):
    result = study.dissect()
    own = Outcome.of(
        load_as(Tally, result / "onet_layer3_tally.npz"), load_as(Chance, result / "onet_layer3_chance.npz")
    )
    calls = calls_of(monkeypatch)
    stopped = {"at": 2}
    make = LayerStore.make

    def stop(self, stage, *arguments):
        stopped["at"] -= 1
        if stopped["at"] < 0:
            raise KeyboardInterrupt
        make(self, stage, *arguments)

    monkeypatch.setattr(LayerStore, "make", stop)
    with pytest.raises(KeyboardInterrupt):
        study(rotation)
    assert calls == ["tally", "chance"] * 3 and not list(result.glob(".*rotated*"))
    monkeypatch.setattr(LayerStore, "make", make)
    study(rotation, WORKERS=0, TALLY_BATCH_SIZE=5)
    assert calls == ["tally", "chance"] * 5  # the third basis, which was not kept, and the fourth
    first = {suffix: (result / f"onet_layer3{suffix}").read_bytes() for suffix in ROTATED}

    counts = rows_of(result / "onet_layer3_rotation.csv")
    assert [(row["power"], row["seed"]) for row in counts] == [
        ("0", ""),
        ("0.5", "0"),
        *(("1", seed) for seed in "012"),
    ]
    assert counts_in(counts[0]) == own_counts(result)
    assert int(counts[0]["confirmed"]) > 0 and counts_in(counts[0]) != counts_in(counts[2]) != counts_in(counts[3])
    for row in counts:
        of = [one for one in rows_of(result / "onet_layer3_rotation_concepts.csv")
              if (one["power"], one["seed"]) == (row["power"], row["seed"])]  # fmt: skip
        assert sum(int(one["detectors"]) for one in of) == int(row["detectors"])
        assert sum(one["detectors"] != "0" for one in of) == int(row["unique"])
    out = capsys.readouterr().out
    assert f"detectors: {counts[0]['detectors']} of the network's own 64 units, " in out
    assert "untrained twins: detectors " in out and str(result / "onet_layer3_rotation.pdf") in out
    assert (tmp_path / "plots" / "onet_layer3_rotation.png").exists()

    del calls[:]
    study(rotation)  # with other workers and batches once more: nothing is computed, and nothing differs
    study(rotation, SCORE_THRESHOLD=0.02)
    assert not calls and first == {suffix: (result / f"onet_layer3{suffix}").read_bytes() for suffix in ROTATED}
    # Power 0 taken the long way comes to the very same numbers as main.py's.
    with dissected.dissected_layers(sys.argv[1:], "a study") as (layer,):
        assert same(rotation.outcome_in(layer, random_rotation(64, 0).power(0)), own)


def test_sweep_from_end_to_end(squares, study, monkeypatch, capsys, tmp_path):
    result = study.dissect()
    calls = calls_of(monkeypatch)
    study(sweep)
    assert calls == ["tally", "chance", "chance"]  # the settings' own quantile is main.py's
    counts, labels = (rows_of(result / f"onet_layer3{suffix}") for suffix in SWEPT)
    first = [(result / f"onet_layer3{suffix}").read_bytes() for suffix in SWEPT]
    scores = ("0.02", "0.03", "0.04", "0.06", "0.08", "0.1")
    assert [(row["quantile"], row["score_threshold"]) for row in counts] == [
        (quantile, score) for quantile in ("0.02", "0.05", "0.1") for score in scores
    ]
    for row in counts[6:12]:
        assert counts_in(row) == own_counts(result, float(row["score_threshold"]))
    assert (tmp_path / "plots" / "onet_layer3_sweep.png").exists()
    assert (
        "At QUANTILE=0.05 and SCORE_THRESHOLD=0.02, {} of 64 units".format(counts[6]["detectors"])
        in capsys.readouterr().out
    )

    def share(quantile, units):
        return sum(row[quantile] == row["0.05"] for row in units) / len(units)

    named = [row for row in labels if row["0.05"]]
    tally = load_as(Tally, result / "onet_layer3_tally.npz")
    assert len(named) > 50
    findings = Findings(tally, 0.02)
    assert [row["0.05"] or None for row in labels] == [findings.top_concept(unit) for unit in range(64)]
    detecting = [labels[unit] for unit in np.flatnonzero(findings.interpretable)]
    for row in counts:
        assert float(row["same_label"]) == share(row["quantile"], named)
        assert float(row["same_label_of_detectors"]) == share(row["quantile"], detecting)
    assert 0 < float(counts[-1]["same_label"]) < 1
    for row in labels:
        assert row["same"] == str(int(row["0.02"] == row["0.05"] == row["0.1"]))

    del calls[:]
    study(sweep)
    assert not calls and first == [(result / f"onet_layer3{suffix}").read_bytes() for suffix in SWEPT]
    study.dissect(QUANTILE=0.1)  # and main.py counts the same at another quantile
    del calls[:]
    study(sweep, QUANTILE=0.1)
    assert calls == ["tally", "chance"]  # 0.05, which was main.py's until now
    again = rows_of(result / "onet_layer3_sweep.csv")
    assert [counts_in(row) for row in again] == [counts_in(row) for row in counts]
    for row in again[12:]:
        assert counts_in(row) == own_counts(result, float(row["score_threshold"]))


@pytest.mark.parametrize("script", [rotation, sweep])
def test_what_main_has_not_made_is_named_with_its_command(small_dictionary, study, script):
    with pytest.raises(
        DissectionError, match=r"mmap does not hold: it has not been made yet; dissect onet_layer3 first"
    ):
        study(script)


def test_other_settings_and_missing_maps_are_told(small_dictionary, study, tmp_path):
    result = study.dissect()
    command = "python main.py TASK=onet LAYER_NAME=layer3 .* QUANTILE=0.01 .* CLEAN=False"
    with pytest.raises(DissectionError, match=f"quantile.npy does not hold: this changed: quantile; .*\n    {command}"):
        study(sweep, QUANTILE=0.01)
    with pytest.raises(DissectionError, match="onet_random1_layer3.* has not been made yet"):
        study(rotation, TWINS=2)
    (result / "onet_layer3.mmap").unlink()
    for script in (rotation, sweep):
        with pytest.raises(
            DissectionError, match=r"layer3.mmap does not hold: the file is gone; dissect onet_layer3 first"
        ):
            study(script)


def test_a_layer_without_places_is_refused(small_dictionary, study):
    words = {
        "TASK": "torchvision",
        "WEIGHTS": "random",
        "ARCHITECTURE": "resnet18",
        "LAYER_NAME": "avgpool",
        "TWINS": 0,
    }
    study.dissect(**words)
    for script in (rotation, sweep):
        with pytest.raises(DissectionError, match="1×1 maps"):
            study(script, **words)
