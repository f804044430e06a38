"""What stands behind the hierarchy and the comparison of models: intervals, chance, twins (method.md §4 and §8)."""

import csv

import cv2
import numpy as np
import pytest

import cluster_top
from method.chance import Chance
from method.evidence import Evidence, Twins
from method.presence import Presence
from method.probability import region_probabilities, resampled_region_probabilities
from method.resampling import poisson_weights
from method.tally import Tally
from store.arrays import load_arrays, load_as
from store.layer import LayerStore
from tests.conftest import region_of
from tests.test_analyses import message_of, run  # noqa: F401 - a fixture
from tests.test_chance import chance
from tests.test_comparison import plain_percentile
from tests.test_probability import made_up, plain_region

pytestmark = pytest.mark.usefixtures("no_pdfs")

SOME_CHANCE = {"PERMUTATIONS": 60, "BOOTSTRAPS": 12, "TWINS": 2, "SCORE_THRESHOLD": 0.005, "ALPHA": 0.99}


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# ------------------------------------------------------------------------------------------------ intervals of P(c|u,R)


def plain_resample(iou, peaks, lowest, highest, carries, copies):
    """P(c|u,R) of one unit where each image stands as often as its number of copies: they are written out."""
    images = [image for image, count in enumerate(copies) for _ in range(count)]
    there = [concept for concept in range(carries.shape[1]) if carries[images, concept].any()]
    found = plain_region(
        [iou[concept] for concept in there], [float(peaks[image]) for image in images], float(lowest), float(highest),
        carries[np.ix_(images, there)],
    )  # fmt: skip
    return [found[there.index(concept)] if concept in there else 0.0 for concept in range(len(iou))]


def test_probabilities_in_resamples_equal_images_written_out():
    random, peaks, lowest, highest = made_up()
    carries = random.random((23, 4)) > 0.6
    carries[:, 3] = np.arange(23) == 5  # which half of the resamples lack
    carries[~carries.any(axis=1), 1] = True
    iou, copies = random.random((7, 4, 60)), random.poisson(1, (23, 60)).astype(np.uint8)
    copies[5, :3] = 0
    found = resampled_region_probabilities(iou, peaks, lowest, highest, carries, copies)
    expected = [
        [plain_resample(iou[u, :, b], peaks[u], lowest[u], highest[u], carries, copies[:, b]) for b in range(60)]
        for u in range(7)
    ]
    assert np.allclose(found, np.moveaxis(expected, 1, 2), atol=1e-9, rtol=0)
    assert not found[:, 3, :3].any() and not found[2].any() and found[:, 3].any()


@pytest.mark.parametrize("ties", ["mean", "order"])
def test_a_resample_of_each_image_once_is_the_whole(ties):
    random, peaks, lowest, highest = made_up()
    carries, iou = random.random((23, 4)) > 0.4, random.random((7, 4))
    carries[0] = True
    once = np.ones((23, 3), np.uint8)
    found = resampled_region_probabilities(np.stack([iou] * 3, 2), peaks, lowest, highest, carries, once, ties)
    expected = region_probabilities(iou, peaks, lowest, highest, carries, ties)
    assert np.allclose(found, expected[:, :, None], atol=1e-12, rtol=0)


def test_the_iou_of_region_concepts_in_resamples_equals_the_plain_loop():
    random = np.random.default_rng(0)
    active, masks = random.random((9, 3, 6, 6)) < 0.2, random.random((3, 9, 6, 6)) < 0.3
    regions, digests = ["Eye_Region", "", "Nose_Region"], [str(image // 2) for image in range(9)]
    of_concepts = {str(concept): (np.arange(9), masks[concept]) for concept in range(3)}
    found = chance(active, of_concepts, digests, permutations=0, bootstraps=8, regions=regions).boot_region_iou
    assert found.shape == (3, 2, 8) and found.dtype == np.float32
    copies = poisson_weights(digests, 8).astype(int)
    for unit in range(3):
        for place, concept in enumerate((0, 2)):
            for b in range(8):
                inside = sum(copies[x, b] * (active[x, unit] & masks[concept, x]).sum() for x in range(9))
                either = sum(copies[x, b] * (active[x, unit] | masks[concept, x]).sum() for x in range(9))
                assert found[unit, place, b] == np.float32(inside / either)


@pytest.fixture
def dissected(small_dictionary, run_main):
    for task in ("onet", "pnet"):
        run_main(TASK=task, **SOME_CHANCE)
    return run_main


def test_the_table_says_of_every_concept_what_is_chance(dissected, run, tmp_path):  # noqa: F811
    run(cluster_top, **SOME_CHANCE)
    result = tmp_path / "result"
    tally, arrays = load_as(Tally, result / "onet_layer3_tally.npz"), load_arrays(result / "onet_layer3_chance.npz")
    names, copies = tally.concepts.tolist(), poisson_weights(arrays["photographs"].astype(str), 12)
    maps = np.memmap(result / "onet_layer3.mmap", np.float32, "r", shape=(12, 64, 8, 8))
    rows = rows_of(result / "onet_layer3_hierarchy.csv")
    units = sorted({int(row["unit"]) for row in rows})
    assert units == np.flatnonzero(tally.tally.max(axis=1) > 0.005).tolist()
    told, wide = 0, 0
    for unit in units:
        mine = [row for row in rows if int(row["unit"]) == unit]
        top = names[tally.tally[unit].argmax()]
        columns = [column for column, name in enumerate(names) if region_of(name) == region_of(top)]
        assert sorted(names.index(row["concept"]) for row in mine) == columns
        excesses = [float(row["excess"]) for row in mine]
        assert excesses == sorted(excesses, reverse=True)
        images = [image for image in range(12) if tally.carries[image, columns].any()]
        peaks, carries = maps[images, unit].max(axis=(1, 2)), tally.carries[np.ix_(images, columns)]
        drawn = [
            plain_resample(arrays["boot_region_iou"][unit, columns, b].tolist(), peaks, maps[:, unit].min(),
                           maps[:, unit].max(), carries, copies[images, b])
            for b in range(12)
        ]  # fmt: skip
        for row in mine:
            at = unit, names.index(row["concept"])
            values = [of[columns.index(at[1])] for of in drawn]
            bounds = plain_percentile(values, 2.5), plain_percentile(values, 97.5)
            assert (float(row["low"]), float(row["high"])) == pytest.approx(bounds, abs=1e-6)
            wide += bounds[1] > bounds[0]
            assert int(row["detected"]) == (float(row["probability"]) > 1.5 / len(columns))
            assert float(row["iou"]) == tally.tally[at] and float(row["location_iou"]) == arrays["location_iou"][at]
            assert float(row["excess"]) == arrays["excess"][at]
            auc = arrays["auc"][at]
            tells = arrays["auc_q"][at] <= 0.99 and (auc >= 0.6 or auc <= 0.4)
            assert (row["auc"], row["tells"]) == (("", "") if auc != auc else (str(float(auc)), str(int(tells))))
            told += row["tells"] == "1"
            confirmed = arrays["q"][unit] <= 0.99 and arrays["p_label"][unit] <= 0.99
            assert row["top_concept"] == top and row["confirmed"] == str(int(confirmed)) and row["label_plain"] in names
    assert told > 5 and wide > 10
    by_concept = rows_of(result / "onet_layer3_detected_concepts.csv")
    for row in by_concept:
        mine = [of for of in rows if of["concept"] == row["concept"]]
        if row["type"] == "Parts":
            assert row["told_apart"] == row["detected_and_told_apart"] == ""
        else:
            assert int(row["told_apart"]) == sum(of["tells"] == "1" for of in mine)
            both = sum(of["tells"] == of["detected"] == "1" for of in mine)
            assert int(row["detected_and_told_apart"]) == both
    assert sum(int(row["confirmed_units_with_top_concept"]) for row in by_concept) == len(
        {row["unit"] for row in rows if row["confirmed"] == "1"}
    )
    text = (result / "onet_layer3_unit_concept_probs.txt").read_text()
    assert text.count("confirmed, plainly ") == len(units) and "excess" in text


# -------------------------------------------------------------------------------------------------- model against model


def made_up_evidence(random, units=150, resamples=9, alpha=0.3):
    """An Evidence of random numbers on three concepts of two regions, with two twins."""
    values = {name: np.full((units, 3), np.nan) for name in Chance.__dataclass_fields__}
    iou, label = random.random((units, 3)), random.integers(-1, 3, units)
    iou[label < 0] = 0
    values |= {
        "iou": iou, "label": label, "map_size": np.array([4, 4]), "q": random.random(units),
        "p_label": random.random(units), "boot_concept": random.integers(-1, 3, (units, resamples)),
        "boot_iou": random.random((units, resamples)).astype(np.float32),
    }  # fmt: skip
    twins = Twins(
        np.arange(2), np.array(["", ""]), random.random((2, units)), random.integers(0, 3, (2, units)),
        random.random((2, units)), random.random((2, units)), random.random((2, units)), np.array([4, 4]),
    )  # fmt: skip
    presence = Presence(*[np.full((units, 3), np.nan)] * 5, *[np.zeros(3, int)] * 2)
    return Evidence(Chance(**values), presence, np.full(3, -1), twins, 0.4, alpha)


def test_shares_of_confirmed_detectors_equal_the_plain_loop():
    evidence = made_up_evidence(np.random.default_rng(1))
    of_concepts, groups = ["eye", "nose", "eye"], ["nose", "eye", "chin"]
    chance, twins = evidence.chance, evidence.twins
    found, of_twins = evidence.shares(of_concepts, groups), evidence.twin_shares(of_concepts, groups)
    assert found.count.sum() > 3 and found.count[2] == 0 and of_twins.sum() > 0
    for place, group in enumerate(groups):

        def stands(top, iou, q, p_label, group=group):
            return bool(top >= 0 and of_concepts[top] == group and iou > 0.4 and q <= 0.3 and p_label <= 0.3)

        counts = [0] * 9
        for b in range(9):
            for unit in range(150):
                held = chance.q[unit], chance.p_label[unit]
                counts[b] += stands(chance.boot_concept[unit, b], chance.boot_iou[unit, b], *held)
        assert found.resampled[place].tolist() == [count / 150 for count in counts]
        tops = zip(chance.label, chance.iou.max(axis=1), chance.q, chance.p_label, strict=True)
        assert found.count[place] == sum(stands(*of) for of in tops)
        for twin in range(2):
            columns = twins.top_concept[twin], twins.chance_iou[twin], twins.q[twin], twins.p_label[twin]
            assert of_twins[twin, place] == sum(stands(*of) for of in zip(*columns, strict=True)) / 150


@pytest.fixture
def followed(dictionary_maker, run_main):
    """Two networks dissected where the nose is a bright square that is now here, now there."""
    random = np.random.default_rng(5)
    for _ in range(24):
        image = cv2.resize(random.integers(0, 60, (6, 5, 3), np.uint8), (60, 60))
        masks = {name: np.zeros((60, 60), bool) for name in ("nose", "mouth", "left_eye")}
        for name, mask in masks.items():
            top, left = random.integers(0, 44, 2)
            mask[top : top + 16, left : left + 16] = True
            if name == "nose":
                image[mask] = 255
        dictionary_maker.add(image, masks)
    dictionary_maker.write()
    for task in ("onet", "pnet"):
        run_main(TASK=task, **SOME_CHANCE)
    return run_main


def test_models_are_compared_over_the_same_photographs(followed, run, tmp_path):  # noqa: F811
    run(cluster_top, **SOME_CHANCE)
    result = tmp_path / "result"
    rows = rows_of(result / "hierarchy_comparison.csv")
    layers = [row for row in rows if not row["other_layer"]]
    pairs = [row for row in rows if row["other_layer"]]
    units = {"onet_layer3": 64, "pnet_layer3": 32}
    assert {row["layer"] for row in layers} == units.keys()
    shares = {(row["division"], row["group"], row["layer"]): float(row["share"]) for row in layers}
    for row in layers:
        of_units = rows_of(result / f"{row['layer']}_units.csv")
        counted = [
            of for of in of_units
            if of["confirmed"] == "1" and row["group"] in ("all", of.get(row["division"]))
        ]  # fmt: skip
        assert int(row["confirmed"]) == len(counted) and float(row["share"]) == len(counted) / units[row["layer"]]
        assert row["share_of_twins"] != "" and row["low"] != ""
    assert any(int(row["confirmed"]) for row in layers)
    assert {row["division"] for row in pairs} == {"all", "region", "type"} and len(pairs) * 2 == len(layers)
    for row in pairs:
        of = row["division"], row["group"]
        difference = shares[(*of, row["layer"])] - shares[(*of, row["other_layer"])]
        assert float(row["difference"]) == pytest.approx(difference)
        assert 0 < float(row["p"]) <= float(row["q"]) + 1e-12 <= 1 + 1e-9
        excludes = float(row["difference_low"]) > 0 or float(row["difference_high"]) < 0
        more = abs(float(row["difference"])) > float(row["untrained_difference"])
        assert int(row["beyond_chance"]) == (excludes and more and float(row["q"]) <= 0.99)
    for name in ("hierarchy_confirmed_per_region", "hierarchy_confirmed_per_type"):
        assert (tmp_path / "plots" / f"{name}.png").stat().st_size > 5000
    cv2.imwrite(str(next((tmp_path / "dictionary").rglob("original.png"))), np.zeros((60, 60, 3), np.uint8))
    followed(TASK="pnet", **SOME_CHANCE)
    run(cluster_top, **SOME_CHANCE)
    again = rows_of(result / "hierarchy_comparison.csv")
    assert all(row["difference"] and not row["p"] and not row["beyond_chance"] for row in again if row["other_layer"])
    assert all(row["low"] for row in again if not row["other_layer"])


# -------------------------------------------------------------------------------------- what was left out or is missing


def test_what_was_left_out_is_said_and_the_rest_is_there(small_dictionary, run_main, run, tmp_path, capsys):  # noqa: F811
    nothing = {"PERMUTATIONS": 0, "BOOTSTRAPS": None, "TWINS": 0, "ALPHA": None, "SCORE_THRESHOLD": 0.005}
    for task in ("onet", "pnet"):
        run_main(TASK=task, **nothing)
    run(cluster_top, **{**nothing, "BOOTSTRAPS": 0})  # which says the same as None
    out = capsys.readouterr().out
    for setting in ("ALPHA", "PERMUTATIONS", "BOOTSTRAPS", "TWINS"):
        assert f"for {setting} was left out" in out
    assert out.count("no unit is confirmed") == out.count("for ALPHA was left out") == 2  # once per layer
    rows = rows_of(tmp_path / "result" / "onet_layer3_hierarchy.csv")
    assert rows and all(row["low"] == row["high"] == "" and row["confirmed"] == "0" for row in rows)
    assert all(float(row["probability"]) >= 0 and row["excess"] for row in rows)
    compared = rows_of(tmp_path / "result" / "hierarchy_comparison.csv")
    assert all(row["low"] == row["q"] == row["share_of_twins"] == "" for row in compared)


def test_a_tally_without_its_chance_is_refused_with_the_command(small_dictionary, run_main, run, tmp_path):  # noqa: F811
    run_main(TASK="pnet")
    artifacts = LayerStore(tmp_path / "result", "pnet_layer3")
    kept = artifacts.path("_manifest.json").read_text()
    for suffix in ("_chance.npz", "_twins.npz"):
        artifacts.forget(suffix)
        message = message_of(run, cluster_top, TASKS="pnet")
        assert f"pnet_layer3{suffix} has not been made yet; dissect it with" in message
        assert "python main.py TASK=pnet LAYER_NAME=layer3 CLEAN=False" in message
        artifacts.path("_manifest.json").write_text(kept)
    run(cluster_top, TASKS="pnet")
    artifacts.path("_manifest.json").write_text(kept.replace('"seg_threshold": 0.5', '"seg_threshold": 0.4', 1))
    assert "was not made from what the tally beside it was made from" in message_of(run, cluster_top, TASKS="pnet")


@pytest.mark.parametrize("name", ["PERMUTATIONS", "BOOTSTRAPS", "TWINS", "CHANCE_IMAGES"])
def test_other_settings_of_chance_are_refused(small_dictionary, run_main, run, name):  # noqa: F811
    run_main(TASK="pnet", **{name: 2})
    message = message_of(run, cluster_top, TASKS="pnet", **{name: 0})
    assert f"it was dissected with {name}=2 and this run has {name}=0: give this run {name}=2" in message
