"""Ablation: the network behind a layer against the whole one, planted units, plain loops, and the script itself."""

import csv
import sys
from dataclasses import replace
from itertools import product

import cv2
import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

import ablation
import predict
from dictionary.faces import Face, write_known_faces
from dictionary.views import view_of
from experiments import counterfactual
from loader import tasks
from loader.ablation import NetworkBehind, ablated_pass
from loader.batch import Batch
from loader.crops import Crop, read_crop
from loader.models import load_model, model_spec
from loader.predictions import Classes, Points, Years
from method.ablation import (
    MeanMaps,
    Measure,
    at_least,
    class_measures,
    effect_of,
    importance,
    point_measures,
    random_orders,
    spearman,
    steps,
    weighted_auc,
    year_measures,
)
from method.counterfactual import carried_by, carried_share, paired_mean
from store.ablation import UnitSet, listed, of_sets
from store.arrays import load_arrays
from tests.conftest import LITTLE_CHANCE
from util.errors import DissectionError
from util.files import digest

GENDERS = Classes("gender", ("female", "male"))


def network(task, layer, **options):
    model = load_model(task, [layer], weights=options.pop("weights", None), **options)
    return replace(model, spec=replace(model.spec, predicts=model.spec.predicts or GENDERS))


def images_for(model, count=6, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *model.grid, 3), np.uint8)


TORCHVISION = {"weights": "random", "num_classes": 2, "input_size": 64}


# ------------------------------------------------------------------------------------------ the network behind a layer


@pytest.mark.parametrize(
    ("task", "layer", "options"),
    [
        ("dlib_gender", "conv2.0", {}),
        ("dlib_gender", "conv4.0", {}),
        ("dlib_age", "stage3.1.conv1.0", {}),
        ("onet", "conv3", {"input_size": 48}),
        ("torchvision", "layer4.1.conv2", {"architecture": "resnet18", **TORCHVISION}),
        ("torchvision", "layer2.0.conv1", {"architecture": "resnet18", **TORCHVISION}),
    ],
)
def test_ablating_a_convolution_is_setting_its_filters_to_zero_exactly(task, layer, options):
    model, units = network(task, layer, **options), [0, 3, 5]
    images = images_for(model)
    behind = NetworkBehind(model, images)
    found = behind.run(behind.keep(images), units)
    assert behind.split
    convolution = dict(model.module.named_modules())[layer]
    with torch.no_grad():
        convolution.weight[units] = 0
        if convolution.bias is not None:
            convolution.bias[units] = 0
    assert np.array_equal(found, model.spec.predicts.statement(model.output(images)))


@pytest.mark.parametrize(
    ("architecture", "layer"),
    [("densenet121", "features.denseblock3.denselayer5.conv1"), ("googlenet", "inception4b.branch2.1.conv"),
     ("convnext_tiny", "features.5.2.block.3"), ("mobilenet_v3_small", "features.5.block.1.0"),
     ("swin_t", "features.3.1"), ("vit_b_32", "encoder.layers.encoder_layer_5")],
)  # fmt: skip
def test_split_and_whole_give_the_same_in_any_layout(architecture, layer):
    size = 224 if architecture == "vit_b_32" else 64
    model = network("torchvision", layer, architecture=architecture, **{**TORCHVISION, "input_size": size})
    images = images_for(model, 2)
    behind = NetworkBehind(model, images)
    assert behind.split
    kept = behind.keep(images)
    for units in ([], [1], list(range(behind.units))):
        whole = behind._whole(kept.inputs, behind._ablation(units, None))
        assert np.abs(behind.run(kept, units) - whole).max() < 1e-4
    assert np.array_equal(behind.run(kept), kept.numbers)


def test_nothing_before_the_layer_is_computed_again():
    model = network("dlib_gender", "layer4")
    images = images_for(model)
    behind = NetworkBehind(model, images)
    kept = behind.keep(images)
    with torch.no_grad():
        model.module.conv1[0].weight.fill_(1e9)
    assert np.array_equal(behind.run(kept), kept.numbers)
    assert "forward" not in vars(model.module.conv1) and not model.module.relu4._forward_hooks


class Restless(nn.Module):
    """Calls the modules before the layer in another order every time, and its output depends on all of them."""

    def __init__(self):
        super().__init__()
        self.one, self.other, self.layer = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)
        self.passes, self.calm = 0, False

    def forward(self, images):
        self.passes += 1
        first, second = (self.one, self.other) if self.calm or self.passes // 2 % 2 else (self.other, self.one)
        both = first(images) + second(images)
        return (self.layer(both) + both).mean((2, 3))[:, :2]


def test_a_network_that_cannot_be_split_runs_whole(caplog):
    caplog.set_level("INFO")
    model = network("dlib_gender", "layer4")
    spec = replace(model.spec, predicts=GENDERS)
    model = replace(model, module=Restless().eval(), layers={"layer4": "layer"}, spec=spec)
    images = images_for(model)
    behind = NetworkBehind(model, images)
    assert not behind.split and "cannot be split at layer" in caplog.text
    found = behind.run(behind.keep(images), [1])
    model.module.calm = True
    calm = NetworkBehind(model, images)
    kept = calm.keep(images)
    model.module.calm = False
    assert calm.split and all(np.array_equal(calm.run(kept, [1]), found) for _ in range(4)) and not calm.split
    with torch.no_grad():
        model.module.layer.weight[1] = model.module.layer.bias[1] = 0
    assert np.abs(found - GENDERS.statement(model.output(images))).max() < 1e-6


def test_all_units_ablated_are_a_network_blind_at_that_layer():
    model = network("dlib_gender", "layer3")
    images = images_for(model)
    behind = NetworkBehind(model, images)
    found = behind.run(behind.keep(images), range(behind.units))
    handle = model.module.relu3.register_forward_hook(lambda *of: torch.zeros_like(of[2]))
    blind = model.spec.predicts.statement(model.output(images))
    handle.remove()
    assert np.array_equal(found, blind) and np.ptp(found, axis=0).max() == 0  # the same for every face


def test_maps_can_be_set_to_others():
    model = network("dlib_gender", "layer4")
    images = images_for(model)
    behind = NetworkBehind(model, images)
    kept, other = behind.keep(images), behind.keep(images_for(model, seed=1))
    assert np.abs(behind.run(kept, range(64), other.maps) - other.numbers).max() < 1e-5
    mean = MeanMaps()
    for start in range(0, 6, 4):
        mean.add(Batch(np.arange(start, 6)[:4], [], kept.maps.numpy()[start : start + 4]))
    assert np.allclose(mean.result(), kept.maps.numpy().astype(float).mean(axis=0), atol=1e-6)
    to_mean = behind.run(kept, range(64), mean.result())
    assert np.ptp(to_mean, axis=0).max() < 1e-5 and not np.allclose(to_mean, behind.run(kept, range(64)))


def test_results_do_not_depend_on_batches_and_workers():
    model = network("dlib_gender", "layer4")
    images, sets = images_for(model, 7), [[0], [1, 2]]
    runs = [
        ablated_pass(model, sets, 7, images.__getitem__, value=None, batch_size=size, workers=workers, label="")
        for size, workers in ((7, 0), (2, 2))
    ]  # fmt: skip
    assert runs[0].shape == (3, 7, 2) and np.abs(runs[0] - runs[1]).max() < 1e-4


def test_statements_of_predictions():
    odds = Classes("x", ("a", "b", "c"), are_logits=False).statement(torch.tensor([[0.5, 0.25, 0.25]]))
    assert np.allclose(odds, np.log([[1, 1 / 3, 1 / 3]]))
    scores = torch.tensor([[1.0, -2.0]])
    assert np.allclose(GENDERS.statement(scores), [[3, -3]])
    assert np.isfinite(Classes("x", ("a", "b"), are_logits=False).statement(torch.tensor([[1.0, 0.0]]))).all()
    assert Years((10, 20), are_logits=False).statement(torch.tensor([[0.25, 0.75]])).tolist() == [[17.5]]
    points = Points(("left", "right"), lambda output: output)
    assert points.statement(torch.arange(8.0).reshape(2, 2, 2)).tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    with pytest.raises(DissectionError, match="eyes must be the numbers of two of left, right"):
        Points(("left", "right"), lambda output: output, eyes=(0, 2))


# -------------------------------------------------------------------------------------------------------- plain loops


def plain_auc(scores, positive, times):
    won = pairs = 0.0
    for one, other in product(np.flatnonzero(positive), np.flatnonzero(~positive)):
        weight = times[one] * times[other]
        pairs += weight
        won += weight * ((scores[one] > scores[other]) + (scores[one] == scores[other]) / 2)
    return won / pairs if pairs else np.nan


def test_auc_in_resamples_is_that_of_repeated_photographs():
    random = np.random.default_rng(0)
    scores, positive = random.integers(0, 6, 20).astype(float), random.random(20) < 0.4
    weights = random.poisson(1, (20, 5))
    expected = [plain_auc(scores, positive, times) for times in weights.T]
    assert np.allclose(weighted_auc(scores, positive, weights), expected)
    assert np.isnan(weighted_auc(scores, np.ones(20, bool), weights)).all()


def test_effects_on_classes_equal_plain_loops():
    random = np.random.default_rng(1)
    log_odds = random.standard_normal((4, 12, 1)) * [1, -1]  # the whole network and three sets
    classes = random.integers(-1, 2, 12)
    members = np.array([np.ones(12, bool), np.arange(12) < 7, np.arange(12) >= 7])
    weights = random.poisson(1, (12, 30))
    for measure in class_measures(log_odds, classes):
        effect = effect_of(measure, members, [(1, 2)], weights, intervals=2)
        assert effect.value.shape == (3, 4) and np.isnan(effect.low[2]).all()
        for number, group in product(range(3), range(3)):

            def plain(times, which, measure=measure, group=group):
                rows = [row for row in range(12) if members[group, row] and classes[row] >= 0]
                odds = log_odds[which]
                if measure.name == "auc":
                    return plain_auc(odds[rows, 0], classes[rows] == 0, times[rows])
                said = [odds[row, classes[row]] if measure.name == "log_odds" else odds[row].argmax() == classes[row]
                        for row in rows]  # fmt: skip
                return sum(said * times[rows]) / sum(times[rows])

            once = np.ones(12)
            assert effect.value[number, group] == pytest.approx(plain(once, number + 1) - plain(once, 0))
            if number < 2:
                drawn = np.array([plain(times, number + 1) - plain(times, 0) for times in weights.T])
                expected = np.percentile(drawn[~np.isnan(drawn)], (2.5, 97.5))
                assert [effect.low[number, group], effect.high[number, group]] == pytest.approx(expected)
        assert np.allclose(effect.value[:, 3], effect.value[:, 1] - effect.value[:, 2])


def test_effects_on_years_and_points_equal_plain_loops():
    years = np.array([[30.0, 50, 70], [45, 50, 55]])
    ranges = np.array([[20, 40], [np.nan, np.nan], [60, np.inf]])
    everyone, none = np.ones((1, 3), bool), np.empty((3, 0))
    found = {of.name: effect_of(of, everyone, [], none, 0) for of in year_measures(years, ranges)}
    assert found["moved"].value[0, 0] == pytest.approx((15 + 0 + 15) / 3)
    assert found["shift"].value[0, 0] == 0
    assert found["error"].value[0, 0] == (5 + 5) / 2  # of the second nothing is known

    places = np.random.default_rng(2).random((2, 3, 3, 2))
    measures = {of.name: of for of in point_measures(places, ("left", "right", "nose"), (0, 1))}
    moved = np.array([
        [np.hypot(*(places[1, face, point] - places[0, face, point]))
         / np.hypot(*(places[0, face, 0] - places[0, face, 1])) for point in range(3)]
        for face in range(3)
    ])  # fmt: skip
    shares = moved.sum(axis=0) / moved.sum()
    expected = {"displacement": moved.mean(), "displacement_nose": moved[:, 2].mean(), "share_nose": shares[2],
                "share_eyes": shares[0] + shares[1]}  # fmt: skip
    for name, value in expected.items():
        assert effect_of(measures[name], everyone, [], none, 0).value[0, 0] == pytest.approx(value), name


def test_importance_is_what_the_right_class_loses_or_how_far_points_move():
    odds = Measure("log_odds", np.array([[2.0, 2, 2], [1, 1, 0], [2, 3, 2]]))
    rows = np.array([True, True, False])
    assert importance(odds, rows).tolist() == [1, -0.5]
    assert importance(replace(odds, is_change=False), rows).tolist() == [1, 2.5]


def test_random_sets_are_seeded_and_nested():
    few, more = random_orders(50, 3), random_orders(50, 20)
    assert np.array_equal(few, more[:3])
    assert len({tuple(order) for order in more.tolist()}) == 20
    assert all(sorted(order) == list(range(50)) for order in more.tolist())
    distinct, random = listed([UnitSet("own", "", [4, 2])], 20, 50)
    assert distinct[0] == [2, 4] and [len(distinct[place]) for place in random[2]] == [2] * 20
    assert [set(distinct[place]) for place in random[2]] == [set(order[:2]) for order in more.tolist()]


def test_units_chosen_on_one_half_are_ablated_for_the_other():
    sets = [UnitSet("top", "by importance", [0, 1], [2, 3]), UnitSet("region", "r", [5])]
    distinct, _ = listed(sets, 1, 8)
    numbers = np.array([[[10.0 * sum(units)]] * 4 for units in distinct])
    second = np.array([False, True, True, False])
    found = of_sets(sets, distinct, numbers, second)[:, :, 0]
    assert found.tolist() == [[10, 50, 50, 10], [50] * 4]


def test_steps_levels_and_rank_correlation():
    assert steps(13) == [1, 2, 3, 4, 6, 8, 12, 13] and steps(1) == [1] and steps(8)[-2:] == [6, 8]
    random = np.array([[-1.0], [0.5], [-3]])
    assert at_least(np.array([-1.0]), random).tolist() == [3 / 4]
    assert at_least(np.array([0.4]), random).tolist() == [2 / 4]
    one, other = np.random.default_rng(0).random((2, 30)).round(1)
    rho, low, high = spearman(one, other)
    assert rho == pytest.approx(spearmanr(one, other).statistic) and low < rho < high
    assert np.isnan(spearman(one, np.ones(30))).all()


# ---------------------------------------------------------------------------------------------------------- the script


LOADER = """
import torch
from torch import nn
from loader.models import ModelSpec
from loader.predictions import Classes


class Planted(nn.Module):
    '''Decides by unit 2 alone, which is how bright the picture is.'''

    def __init__(self):
        super().__init__()
        self.before, self.maps = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 6, 1)

    def forward(self, images):
        level = 8 * self.maps(self.before(images)).mean((2, 3))[:, 2]
        return torch.stack([-level, level], 1)


def weights():
    torch.manual_seed(0)
    network = Planted()
    with torch.no_grad():
        network.before.weight.copy_(torch.eye(3)[:, :, None, None])
        network.before.bias.zero_()
        network.maps.weight[2], network.maps.bias[2] = 1 / 3, -0.5
    return network.state_dict()


MODEL = ModelSpec(
    network="planted", build=Planted, layers={{"layer3": "maps"}}, side_px=8, pretrained=weights, {predicts}
)
"""
PREDICTS = "predicts=Classes('gender', ('female', 'male'))"


@pytest.fixture
def planted(tmp_path, monkeypatch):
    """Writes the loader file of a planted network."""
    monkeypatch.setattr(tasks.loader_file, "__defaults__", (tmp_path,))
    monkeypatch.setattr(model_spec, "__defaults__", (tmp_path,))
    monkeypatch.setitem(load_model.__kwdefaults__, "loader_folder", tmp_path)

    def write(predicts=PREDICTS):
        (tmp_path / "model_loader_planted.py").write_text(LOADER.format(predicts=predicts))

    return write


@pytest.fixture
def faces(small_dictionary):
    """Bright men and dark women, smiling or not, in subgroups of two concepts."""
    for number in range(24):
        level = (200 if number % 2 else 40) + number
        picture = np.full((20, 20, 3), level, np.uint8)
        groups = ["Gender/Male" if number % 2 else "Gender/Female", "skin_tone/" + ("dark", "bright")[number // 2 % 2]]
        for group in groups:
            place = small_dictionary / "non_localizable" / group
            place.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(place / f"{number}.png"), picture)
    return small_dictionary


@pytest.fixture
def run(tmp_path, monkeypatch):
    def run_script(script=ablation, **words):
        defaults = {
            "TASK": "planted", "LAYER_NAME": "layer3", "DICTIONARY": tmp_path / "dictionary",
            "OUTPUT_FOLDER": tmp_path / "result", "NL_FOLDER": tmp_path / "global", "PLOT_FOLDER": tmp_path / "plots",
            "CACHE_FOLDER": tmp_path / "cache", "WORKERS": 0, **LITTLE_CHANCE, "BOOTSTRAPS": 50, "RANDOM_SETS": 4,
        }  # fmt: skip
        monkeypatch.setattr(sys, "argv", ["script", *(f"{key}={value}" for key, value in (defaults | words).items())])
        script.main()
        return tmp_path / "result"

    return run_script


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_network_that_decides_by_one_unit_loses_everything_with_it(planted, faces, run, capsys):
    planted()
    result = run()
    out = capsys.readouterr().out
    units = rows_of(result / "planted_layer3_ablation_units.csv")
    assert units[0]["unit"] == "2" and float(units[0]["log_odds, all"]) < -1
    assert float(units[0]["accuracy, all"]) == -0.5 and float(units[0]["auc, all"]) == -0.5
    assert float(units[0]["accuracy, gender: male"]) == -1  # all are called women then
    assert all(float(of[name]) == 0 for of in units[1:] for name in of if name.startswith(("log_odds", "accuracy, "))
               and of[name])  # fmt: skip
    rows = rows_of(result / "planted_layer3_ablation.csv")
    top = [row for row in rows if (row["kind"], row["measure"]) == ("top", "accuracy")]
    by_group = {row["group"]: row for row in top}
    assert by_group["all"]["photographs"] == "24" and by_group["gender: male, skin_tone: bright"]["photographs"] == "6"
    assert float(by_group["all"]["before"]) == 1 and float(by_group["all"]["effect"]) == -0.5
    assert float(by_group["gender: male less gender: female"]["effect"]) == -1
    assert "no labels of units, no regions" in out and "run python main.py TASK=planted" in out
    assert "no units biased by gender, skin_tone: run python nl_bias.py TASKS=planted LAYER_NAME=layer3" in out
    assert "To no group as much as at most" in out  # these often hold unit 2, too
    run(UNITS=2)
    told = "Removing unit 2 costs male 100.0 (100.0 to 100.0) points of accuracy, female 0.0 (0.0 to 0.0)"
    assert told in capsys.readouterr().out


def test_what_main_and_nl_bias_found_is_put_beside(faces, run, capsys, planted):
    import main
    import nl_bias

    planted()
    words = {"SCORE_THRESHOLD": 0.0, "QUANTILE": 0.2}
    run(main, **words)
    run(nl_bias, TASKS="planted", TASK_LAYERS="{'planted': 'layer3'}", **words)
    result = run(**words)
    kinds = {row["kind"] for row in rows_of(result / "planted_layer3_ablation.csv")}
    assert kinds == {"region", "biased", "top", "curve"}
    units = rows_of(result / "planted_layer3_ablation_units.csv")
    assert all(row["label"] for row in units) and "male" in units[0]["beyond_cut_off"]
    assert "Removing the" in capsys.readouterr().out


def test_finished_stages_are_kept_and_nothing_is_made_twice(planted, faces, run, monkeypatch):
    planted()
    result, ablate = [], ablated_pass

    def stop_at_sets(*arguments, label, **options):
        if "sets" in label:
            raise KeyboardInterrupt
        return ablate(*arguments, label=label, **options)

    monkeypatch.setattr(ablation, "ablated_pass", stop_at_sets)
    with pytest.raises(KeyboardInterrupt):
        run()
    monkeypatch.setattr(ablation, "ablated_pass", lambda *of, label, **more: result.append(label) or ablate(
        *of, label=label, **more))  # fmt: skip
    folder = run()
    assert result == ["planted: sets of units"]
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*_ablation*") if "settings" not in path.name}
    assert len(before) == 5
    run()
    assert result == ["planted: sets of units"] and {path: path.stat().st_mtime_ns for path in before} == before
    run(RANDOM_SETS=5)
    assert result == ["planted: sets of units"] * 2
    run(ABLATE_TO="mean")
    assert result[2:] == ["planted: single units", "planted: sets of units"]


def test_ones_own_units(planted, faces, run, capsys):
    planted()
    result = run(UNITS="2,4", RANDOM_SETS=30)
    rows = rows_of(result / "planted_layer3_ablation(2,4).csv")
    assert {row["set"] for row in rows} == {"units 2, 4"} and {row["units"] for row in rows} == {"2 4"}
    row = next(row for row in rows if row["group"] == "all" and row["measure"] == "log_odds")
    pairs = [set(order[:2]) for order in random_orders(6, 30).tolist()]
    assert float(row["random_at_least"]) == pytest.approx((1 + sum(2 in pair for pair in pairs)) / 31)
    assert "Removing units 2, 4 costs" in capsys.readouterr().out
    for units in ("6", "2,2"):
        with pytest.raises(DissectionError, match="the layer has units 0 to 5; name each once"):
            run(UNITS=units)


def test_networks_whose_predictions_mean_nothing_are_refused(planted, faces, run):
    planted("")
    with pytest.raises(DissectionError, match=r"add to its ModelSpec predicts=Classes\('gender'"):
        run()
    planted("predicts=Classes('gender', ('a', 'b'))")
    with pytest.raises(DissectionError, match="but the dictionary has male, female of it"):
        run()
    with pytest.raises(DissectionError, match="but the dictionary has male, female of it"):
        run(predict)
    planted()
    model = replace(load_model("planted", ["layer3"]), unfitted=("dense2.weight",))
    with pytest.raises(DissectionError, match=r"have no usable weights \(dense2.weight\)"):
        ablation.predicting(None, model)


def test_points_are_told_of_the_faces_that_mtcnn_shows(small_dictionary, run):
    faces = {}
    for path in sorted(small_dictionary.glob("*/*/original.png")):
        height, width, _ = cv2.imread(str(path)).shape
        points = ((20.0, 25.0), (35.0, 25.0), (28.0, 33.0), (22.0, 42.0), (34.0, 42.0))
        faces[digest(path.read_bytes())] = Face((12.0, 10.0, 42.0, 52.0), points, (width, height))
    write_known_faces(small_dictionary, faces)
    result = run(TASK="onet", UNITS="5,25")
    rows = {row["measure"]: row for row in rows_of(result / "onet_layer3_ablation(5,25).csv")}
    assert {row["group"] for row in rows.values()} == {"all"} and rows["displacement"]["photographs"] == "12"
    shares = [float(rows[name]["effect"]) for name in rows if name.startswith("share_") and name != "share_eyes"]
    assert len(shares) == 5 and sum(shares) == pytest.approx(1)
    assert float(rows["share_eyes"]["effect"]) == pytest.approx(shares[0] + shares[1])
    assert load_arrays(result / "onet_layer3_ablation_units.npz")["numbers"].shape == (65, 12, 10)


def test_a_square_lies_as_mtcnns_own_and_is_black_beyond_the_photograph():
    photograph = np.random.default_rng(0).integers(1, 256, (60, 50, 3), np.uint8)
    face = Face((10.0, 20.0, 30.0, 60.0), ((0.0, 0.0),) * 5, (50, 60))
    view = view_of(face, Crop("square"))
    column, row = view.place(np.array([20.0, 20]), np.array([20.0, 60]), None, (100, 100))
    assert column.tolist() == pytest.approx([50, 50])
    assert row.tolist() == pytest.approx([50 - 2.75 - 52.9, 50 - 2.75 + 52.9])  # the box's edges, 1.058 sides apart
    beyond = view_of(face, Crop("square", 0.5)).image(photograph, (80, 80))
    assert not beyond[:, :10].any() and not beyond[70:].any() and beyond[20:50, 25:55].all()
    assert read_crop("square 0.2") == Crop("square", 0.2)


# ------------------------------------------------------------------------------------------------- counterfactual twins


def test_of_a_switch_the_deciding_unit_carries_all_and_no_other_anything(planted, small_dictionary, run):
    planted()
    result = run(counterfactual, SWITCHED="skin_tone,Eyeglasses", FACES=16, TOPK=1)
    moved = {(row["concept"], row["group"]): row for row in rows_of(result / "planted_layer3_counterfactual_table.csv")}
    darker = moved["skin_tone", "all"]
    assert darker["faces"] == "16" and float(darker["high"]) < 0 and float(darker["share_up"]) == 0
    assert moved["skin_tone", "gender: male"]["faces"] == "8" and ("skin_tone", "skin_tone: dark") not in moved
    units = rows_of(result / "planted_layer3_counterfactual_units.csv")
    carried = {row["unit"]: float(row["share"]) for row in units if row["concept"] == "skin_tone"}
    assert carried.pop("2") == pytest.approx(1) and set(carried.values()) == {0}


def test_what_is_carried_equals_plain_numbers():
    off, on = np.array([0.0, 2]), np.array([4.0, 2])
    assert carried_by(off, on, off_with=np.array([1.0, 2]), on_without=np.array([1.0, 2])).tolist() == [2, 0]
    weights = np.array([[1, 2], [1, 0]])
    share = carried_share(np.array([2.0, 0]), on - off, weights)
    assert (share.value, share.low, share.high) == (0.5, 0.5, 0.5)
    assert paired_mean(on - off, weights).value == 2 and paired_mean(on - off, weights).high == pytest.approx(3.95)
    assert np.isnan(paired_mean(np.empty(0), weights[:0]).value)
