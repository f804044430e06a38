"""Studies that train networks: the training sets, the training, what is read off, and the sentences."""

import csv
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats

from dictionary import render as rendering_program
from dictionary.subgroups import matched_concepts
from experiments import controlled, faces, trained, training
from experiments.faces import BY_GENDER, BY_GROUPS, Faces, eyeglasses, face_of, faces_of, grayscale, one_version
from experiments.trained import Recipe, Trained, train
from loader.models import load_model
from method.trend import Trend, holm, mean_interval
from rendering.face import GENDERS
from store.layer import LayerStore
from util.errors import DissectionError

# ------------------------------------------------------------------------------------------------------------- trends


def test_rho_and_its_chance_are_those_of_scipy():
    random = np.random.default_rng(0)
    conditions = [50, 60, 70, 80, 90, 100]
    for _ in range(20):
        numbers = random.integers(0, 5, 6).astype(float)
        trend = Trend.of(conditions, [numbers])
        if len(set(numbers)) == 1:
            assert trend.rho == 0
            continue
        assert abs(trend.rho - stats.spearmanr(conditions, numbers).statistic) < 1e-12
        exact = stats.permutation_test(
            (numbers,), lambda order: stats.spearmanr(conditions, order).statistic, permutation_type="pairings",
            alternative="greater", n_resamples=np.inf,
        )  # fmt: skip
        assert abs(trend.p - exact.pvalue) < 1e-9
        assert np.isnan(trend.low) and np.isnan(trend.high)


def test_a_number_that_rises_always_has_the_smallest_p_that_there_is():
    trend = Trend.of([50, 60, 70, 80, 90, 100], [[0, 2, 22, 190, 485, 495]])
    assert trend.rho == 1 and trend.p == 1 / 720
    assert Trend.of([1, 2], [[3, 3]]).p == 1  # nothing rises
    assert Trend.of([1, 2], [[3, 1]]).rho == -1


def test_the_interval_of_rho_is_over_repetitions():
    numbers = [[1, 2, 3, 4, 5, 6], [1, 3, 2, 4, 6, 5], [2, 1, 4, 3, 5, 6]]
    trend = Trend.of([50, 60, 70, 80, 90, 100], numbers)
    expected = stats.t.interval(0.95, 2, trend.rhos.mean(), stats.sem(trend.rhos))
    assert trend.low == pytest.approx(expected[0]) and trend.high == min(1, expected[1])
    assert trend.p < 1e-4
    assert trend.rho_of_means == 1 > trend.rho  # their means rise always
    assert mean_interval([1.0, 3.0]) == pytest.approx(stats.t.interval(0.95, 1, 2, 1))


def test_chance_alone_seldom_looks_like_a_trend():
    random = np.random.default_rng(1)
    p = [Trend.of(range(6), random.normal(size=(2, 6))).p for _ in range(300)]
    assert 0.02 < np.mean(np.array(p) <= 0.05) < 0.09


@pytest.mark.parametrize("numbers", [[1, 2, 3], [[1, 2]], np.zeros((2, 4))])
def test_a_trend_needs_a_number_per_condition(numbers):
    with pytest.raises(ValueError, match="numbers must be"):
        Trend.of([1, 2, 3], numbers)


def test_a_fall_has_its_own_p_and_two_conditions_can_show_nothing():
    falls = Trend.of([50, 60, 70, 80, 90, 100], [[9, 7, 6, 4, 2, 1]])
    assert falls.p == 1 and falls.p_falls == falls.least_p == 1 / 720
    assert Trend.of([50, 100], [[0, 100]]).least_p == Trend.of([50, 100], [[0, 100]]).p == 0.5


def test_holm_raises_the_smallest_most():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.6]).tolist() == [1, 1] and holm([]).tolist() == [] and holm([0.02]).tolist() == [0.02]


SHARES = [50, 60, 70, 80, 90, 100]
RISING, FLAT = [1, 2, 3, 4, 5, 6], [2, 2, 2, 2, 2, 2]


@pytest.mark.parametrize(
    ("name", "blocks", "places", "said"),
    [
        ("eyeglasses", [RISING, FLAT], (16, 16), "This is reproduced, by one seed, which is a hint"),
        ("grayscale", [RISING, FLAT], (16, 16), "This is reproduced in part"),
        ("grayscale", [RISING, RISING], (16, 1), "of 2 blocks they rise in a, b"),  # bias needs no places
        ("eyeglasses", [RISING, RISING], (16, 1), "of 1 blocks they rise in a "),
        ("eyeglasses", [RISING[::-1], FLAT], (16, 16), "The contrary is found"),
        ("eyeglasses", [FLAT, FLAT], (16, 16), "This is not reproduced"),
        ("eyeglasses", [RISING[:2], FLAT[:2]], (16, 16), "With 2 shares and 1 seed this cannot be decided"),
    ],
)
def test_the_verdict_says_what_the_numbers_bear_out(name, blocks, places, said):
    study, shares = controlled.STUDIES[name], SHARES[: len(blocks[0])]
    measured = [
        controlled.Measured(0, share, {}, {
            block: {**dict.fromkeys(study.instrument.leading, numbers[at]), "places": size}
            for block, numbers, size in zip("ab", blocks, places, strict=True)
        })
        for at, share in enumerate(shares)
    ]  # fmt: skip
    config = SimpleNamespace(PERCENTAGES=shares, BLOCKS=["a", "b"], SEEDS=1, ALPHA=0.05)
    trends = controlled.trends_of(config, study.instrument, measured)
    assert said in controlled.verdict_of(config, study, study.instrument, measured, trends)


# -------------------------------------------------------------------------------------------------------------- faces


def made_up_faces(men=40, women=30):
    of_class = np.array([0] * men + [1] * women)
    order = np.concatenate([np.random.default_rng(0).permutation(count) for count in (men, women)])
    pictures = np.arange(2 * len(of_class)).reshape(-1, 2, 1, 1, 1).astype(np.uint8)
    return Faces(pictures, of_class, order, pictures, of_class)


@pytest.mark.parametrize("percentage", [0, 10, 50, 73, 100])
def test_a_training_set_gives_the_property_to_exactly_its_share(percentage):
    made = made_up_faces()
    images, has = made.training_set(percentage)
    assert has[made.train_class == 0].sum() == round(0.4 * percentage)
    assert has[made.train_class == 1].sum() == round(30 * (100 - percentage) / 100)
    assert images.ravel().tolist() == [2 * number + int(one) for number, one in enumerate(has)]


def test_training_sets_are_nested_and_show_the_same_faces():
    made = made_up_faces()
    sets = [made.training_set(percentage)[1] for percentage in (50, 60, 80, 100)]
    men = made.train_class == 0
    for less, more in zip(sets, sets[1:], strict=False):
        assert (more[men] >= less[men]).all() and (more[~men] <= less[~men]).all()


def test_the_classes_differ_in_what_they_name_and_the_versions_in_nothing_else():
    face = face_of("train", 3, 4)
    assert face.gender == GENDERS[0] and face_of("train", 3, 5).gender == GENDERS[1]
    without, worn = eyeglasses(face)
    changed = (without != worn).any(axis=2)
    assert 0.005 < changed.mean() < 0.15  # around the eyes alone
    colour, grey = grayscale(face)
    assert (grey == grey[:, :, :1]).all() and (colour != colour[:, :, :1]).any()
    assert len(BY_GROUPS) == 16 and {group["gender"] for group in BY_GROUPS} == {*GENDERS}
    assert (face_of("test", 3, 4).seed, face_of("train", 2, 4).seed) != (face.seed, face.seed)
    assert one_version(face)[0].shape == without.shape


def settings_of_faces(**more):
    given = {"TRAIN_IMAGES": 4, "TEST_FACES": 2, "SIDE_PX": 32, "WORKERS": 0, **more}
    return type("Settings", (), given)


def test_faces_are_rendered_once_and_anew_for_other_settings(tmp_path, monkeypatch):
    def have(**more):
        return faces_of(settings_of_faces(**more), eyeglasses, LayerStore(tmp_path, "seed0"), 0, BY_GENDER)

    first = have()
    assert first.train.shape == (4, 2, 32, 32, 3) and first.test.shape == (2, 2, 32, 32, 3)
    assert first.train_class.tolist() == [0, 1, 0, 1] and sorted(first.order.tolist()) == [0, 0, 1, 1]
    calls = []
    monkeypatch.setattr(faces, "versions_of", lambda *of, **more: calls.append(of))
    assert np.array_equal(have().train, first.train) and not calls
    with pytest.raises(Exception):  # noqa: B017, PT011 - what draws them was taken away
        have(SIDE_PX=40)
    assert calls


# ----------------------------------------------------------------------------------------------------------- training


def recipe(**more):
    given = {
        "task": "convnet", "architecture": "4-8 batchnorm dropout", "classes": 2, "side_px": 16, "epochs": 3,
        "batch": 8, "learning_rate": 0.01, "seed": 0, **more,
    }  # fmt: skip
    return Recipe(**given)


def two_kinds(count=40):
    """Dark and bright images, uint8 (N, 16, 16, 3), and which they are."""
    random, labels = np.random.default_rng(0), np.arange(count) % 2
    return np.uint8(random.integers(0, 80, (count, 16, 16, 3)) + 140 * labels[:, None, None, None]), labels


def last(states):
    return [state for _, state in states][-1]


def test_training_learns_and_the_same_recipe_gives_the_same_weights(tmp_path):
    images, labels = two_kinds()
    network = Trained(tmp_path, "one", recipe(epochs=12), "data", torch.device("cpu"), keep=(1,))
    network.have(images, labels)
    assert (network.outputs(images, 16).argmax(axis=1) == labels).mean() > 0.9
    states = [last(train(recipe().network("cpu"), images, labels, recipe(), "a")) for _ in range(2)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    other = last(train(recipe().network("cpu"), images, labels, recipe(seed=1), "a"))
    assert any(not torch.equal(states[0][name], other[name]) for name in other)
    # The checkpoints are ordinary ones, which main.py takes.
    loaded = load_model(
        "convnet", ["block1"], weights=str(network.weights(1)), architecture="4-8 batchnorm dropout", num_classes=2,
        input_size=16,
    )  # fmt: skip
    kept = torch.load(network.weights(1), weights_only=True)["state_dict"]
    assert torch.equal(loaded.module.state_dict()["block1.0.weight"], kept["block1.0.weight"])


def test_before_the_first_epoch_the_weights_are_those_of_the_untrained_twin():
    images, labels = two_kinds()
    epoch, state = next(iter(train(recipe().network("cpu"), images, labels, recipe(), "a")))
    twin = recipe().network("cpu").module.state_dict()
    assert epoch == 0 and all(torch.equal(state[name], twin[name]) for name in twin)


def test_a_trained_network_is_kept_until_what_it_is_made_from_changes(tmp_path, monkeypatch):
    images, labels = two_kinds()

    def have(data="data", **more):
        Trained(tmp_path, "one", recipe(**more), data, torch.device("cpu")).have(images, labels)

    have()
    made = []
    monkeypatch.setattr(trained, "train", lambda *of: made.append(of) or iter([(3, {})]))
    have()
    assert not made
    for number, changed in enumerate(({"data": "other"}, {"epochs": 4}, {"learning_rate": 0.02}), 1):
        have(**changed)
        assert len(made) == number


def test_a_training_that_diverges_is_no_network():
    images, labels = two_kinds()
    with pytest.raises(DissectionError, match="not finite after epoch 1: lower LEARNING_RATE"):
        list(train(recipe(architecture="4-8").network("cpu"), images, labels, recipe(learning_rate=1e30), "a"))


@pytest.mark.parametrize("images", [5, 9])
def test_no_step_sees_a_single_image(images):
    seen, (pictures, labels) = [], two_kinds(images)
    network = recipe(batch=2).network("cpu")
    network.module.register_forward_pre_hook(lambda module, given: seen.append(len(given[0])))
    list(train(network, pictures, labels, recipe(batch=2, epochs=1), "a"))
    assert sum(seen) == images and min(seen) >= 2


@pytest.mark.parametrize("architecture", [None, "", "resnet50", "4-0", "4-8 batchnrm", "-4"])
def test_convnet_says_what_it_may_be_made_of(architecture):
    with pytest.raises(DissectionError, match="give the units of each block"):
        load_model("convnet", ["block1"], weights="random", architecture=architecture)


# ------------------------------------------------------------------------------------------------ the studies, planted


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    """A rendered dictionary of 40 faces with masks."""
    root = tmp_path_factory.mktemp("rendered") / "dictionary"
    rendering_program.main(["--images", "40", "--per-group", "0", "--out", str(root), "--workers", "1"])
    return root


@pytest.fixture
def run_study(tmp_path, monkeypatch, rendered, capsys):
    """A function that runs a study's main() with settings. Returns what it printed."""

    def run(study, **words):
        colour = words.get("NAME") == "grayscale"
        given = {
            "SIDE_PX": 32, "TRAIN_IMAGES": 16, "TEST_FACES": 16, "EPOCHS": 1, "WORKERS": 0,
            **({"TWINS": 1} if colour else {"PERMUTATIONS": 20, "DICTIONARY": rendered}),
            "STUDY_FOLDER": tmp_path / "study", "CACHE_FOLDER": tmp_path / "cache", **words,
        }  # fmt: skip
        monkeypatch.setattr(sys, "argv", ["study", *(f"{name}={value}" for name, value in given.items())])
        study.main()
        return capsys.readouterr().out

    return run


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


class Planted(Trained):
    """A network that looks the more for a thing, in as many units as a training set's share says."""

    kernel, units = None, 20

    def have(self, images, labels):
        share = int(self.name.removeprefix("p").partition("_")[0])
        weights = self.recipe.network("cpu").module.state_dict()
        of_units = weights["block1.0.weight"]
        # The others see no colour: each looks for a pattern of brightness, which is the same in grey.
        patterns = torch.randn((len(of_units), 1, 3, 3), generator=torch.Generator().manual_seed(0))
        of_units[:] = patterns * torch.tensor([0.299, 0.587, 0.114])[:, None, None]
        for unit in range((share - 50) // 10 * 3):
            of_units[unit] = self.kernel
        self.store.make(trained.weights_stage(), trained._save, weights)


def planted(kernel):
    return type("PlantedNetwork", (Planted,), {"kernel": kernel})


def plant(monkeypatch, kernel):
    monkeypatch.setattr(controlled, "Trained", planted(kernel))
    monkeypatch.setattr(controlled, "TASK", "convnet")


def test_a_planted_bias_is_found_and_rises_with_its_share(run_study, monkeypatch, tmp_path):
    """Units that look for colour, the more the larger P: §5's cut-off must count them."""
    saturation = torch.zeros(3, 3, 3)
    saturation[0], saturation[2] = 1, -1  # red against blue: skin has it, grey has none
    plant(monkeypatch, saturation)
    said = run_study(controlled, NAME="grayscale", ARCH="20", BLOCKS="[block1]", TEST_FACES=40)
    assert "This is reproduced, by one seed, which is a hint" in said and "they rise in block1" in said
    rows = rows_of(tmp_path / "study/grayscale_20_32px/grayscale_counts.csv")
    assert [row["p"] for row in rows] == ["untrained", "50", "60", "70", "80", "90", "100"]
    for name in ("beyond_cut_off", "beyond_color", "biased"):
        assert [int(row[name]) for row in rows[1:]] == [0, 3, 6, 9, 12, 15], name


def test_a_planted_eye_detector_is_found_and_rises_with_its_share(run_study, monkeypatch, tmp_path, dictionary_maker):
    """Units that look for green, where eyeglasses are green and noses are blue."""
    random = np.random.default_rng(5)
    for _ in range(40):
        image, masks = random.integers(90, 160, (64, 64, 3), np.uint8), {}
        for concept, channel in (("Eyeglasses", 1), ("nose", 2)):
            top, left = random.integers(4, 24, 2) + (28 if concept == "nose" else 0)
            masks[concept] = np.zeros((64, 64), bool)
            masks[concept][top : top + 8, left : left + 8] = True
            image[masks[concept]] = np.eye(3, dtype=np.uint8)[channel] * 255
        dictionary_maker.add(image, masks)
    green = -torch.ones(3, 3, 3)
    green[1] = 1
    plant(monkeypatch, green)
    words = {"NAME": "eyeglasses", "ARCH": "20", "BLOCKS": "[block1]", "PERMUTATIONS": 200, "QUANTILE": 0.02}
    said = run_study(controlled, **words, DICTIONARY=dictionary_maker.write())
    assert "This is reproduced, by one seed, which is a hint" in said
    folder = tmp_path / "study/eyeglasses_20_32px"
    rows = rows_of(folder / "eyeglasses_counts.csv")
    for name in ("eye_detectors", "eye_confirmed", "eyeglasses_units", "eyeglasses_confirmed"):
        numbers = np.array([int(row[name]) for row in rows[1:]])  # some others see the squares as well, as edges
        assert (np.diff(numbers) > 0).all() and (numbers >= [0, 3, 6, 9, 12, 15]).all(), name
    trends = {(row["measure"], row["block"]): row for row in rows_of(folder / "eyeglasses_table.csv")}
    assert {block for _, block in trends} == {"block1", "all blocks"}
    for row in trends.values():
        assert row["rho"] == row["rho_seed0"] == "1" and row["low"] == "nan" and float(row["p"]) < 0.002


# ------------------------------------------------------------------------------------------- the studies, end to end


def test_the_eyeglasses_experiment_runs_and_goes_on_where_it_was_stopped(run_study, monkeypatch, tmp_path):
    words = {"NAME": "eyeglasses", "PERCENTAGES": "[100,50]", "BLOCKS": "[layer3,layer4]", "SIDE_PX": 64}
    whole, stopped_at = run_study(controlled, **words, STUDY_FOLDER=tmp_path / "whole"), []

    def stop_at_the_second(*of):
        if stopped_at:
            raise KeyboardInterrupt
        stopped_at.append(of)
        return train(*of)

    with monkeypatch.context() as patched:
        patched.setattr(trained, "train", stop_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            run_study(controlled, **words)
    again = run_study(controlled, **words)
    folders = [tmp_path / place / "eyeglasses_resnet18_64px" for place in ("whole", "study")]
    for name in ("counts", "accuracy", "table"):
        one, other = ((folder / f"eyeglasses_{name}.csv").read_bytes() for folder in folders)
        assert one == other, name
    assert again.replace(str(folders[1]), str(folders[0])) == whole
    accuracy = rows_of(folders[1] / "eyeglasses_accuracy.csv")
    assert len(accuracy) == 2 * 4 and {row["p"] for row in accuracy} == {"50", "100"}
    assert all((folders[1] / f"eyeglasses{suffix}").stat().st_size > 5000 for suffix in ("_story.pdf", "_curves.png"))
    assert not list(folders[1].rglob("*.mmap"))
    kept = [path for path in folders[1].rglob("*.*") if path.suffix in (".pth", ".npz", ".pdf")]
    before = {path: path.stat().st_mtime_ns for path in kept}
    assert run_study(controlled, **words) == again
    assert before == {path: path.stat().st_mtime_ns for path in before}
    assert "(one seed: no interval)" in again


def test_the_grayscale_experiment_runs(run_study, tmp_path):
    words = {"NAME": "grayscale", "PERCENTAGES": "[50,100]", "BLOCKS": "[layer1]", "SEEDS": 2}
    said = run_study(controlled, **words)
    folder = tmp_path / "study/grayscale_resnet18_32px"
    rows = rows_of(folder / "grayscale_counts.csv")
    assert [(row["seed"], row["p"]) for row in rows] == [(s, p) for s in "01" for p in ("untrained", "50", "100")]
    for row in rows:
        assert int(row["beyond_color"]) + int(row["beyond_grayscale"]) == int(row["beyond_cut_off"])
        assert int(row["biased"]) <= int(row["beyond_cut_off"]) <= int(row["units"]) == 64
    assert "2 seeds" in said and "male in grey" in said
    assert sorted(matched_concepts(folder / "dictionary")) == ["colour"]
    assert len(list((folder / "dictionary/non_localizable/Colour/grayscale").iterdir())) == 16
    assert len(list((folder / "untrained/twins").glob("*.npz"))) == 2  # of one twin, shared by all networks


def test_the_study_of_training_runs_and_counts_seed_by_seed(run_study, tmp_path):
    words = {"SEEDS": 3, "EPOCHS": 2, "NETWORK": "4-6 batchnorm", "VARIANTS": "[+dropout]"}
    said = run_study(training, **words, KEEP_EPOCHS="[1,9]", SCORE_THRESHOLD=0.01)
    folder = tmp_path / "study/training_32px"
    rows = rows_of(folder / "training_counts.csv")
    states = [(row["network"], row["seed"], row["epoch"], row["block"]) for row in rows]
    blocks = ("block1", "block2")
    assert states == [
        *(("network", seed, epoch, block) for seed in "012" for epoch in "012" for block in blocks),
        *(("with dropout", seed, "2", block) for seed in "012" for block in blocks),
    ]

    def total(network, seed, epoch, measure):
        of = [row for row in rows if (row["network"], row["seed"], row["epoch"]) == (network, seed, epoch)]
        return sum(int(row[measure]) for row in of)

    for row in rows_of(folder / "training_table.csv"):
        trained_one = ("network", "2")
        pairs = {"training": (trained_one, ("network", "0")), "+dropout": (("with dropout", "2"), trained_one)}
        (one, at), (other, before) = pairs[row["change"]]
        by_seed = [total(one, s, at, row["measure"]) - total(other, s, before, row["measure"]) for s in "012"]
        assert [int(row[f"seed{seed}"]) for seed in "012"] == by_seed
        assert float(row["difference"]) == pytest.approx(np.mean(by_seed))
        assert (float(row["low"]), float(row["high"])) == pytest.approx(mean_interval(by_seed), abs=1e-4)
    for words in ("CVPR 2017: more with training", "CVPR 2017: independent of the first weights", "more with depth"):
        assert words in said
    places = rows_of(folder / "training_places.csv")
    assert [row["accuracy"] != "" for row in places] == [row["epoch"] == "2" for row in places]


# -------------------------------------------------------------------------------------------------- words and errors


@pytest.mark.parametrize(
    ("study", "words", "told"),
    [
        (controlled, {"NAME": "hats"}, "NAME is 'hats': it must be 'eyeglasses' or 'grayscale'"),
        (controlled, {"PERCENTAGES": "[50]"}, "give two or more, none twice"),
        (controlled, {"PERCENTAGES": "[50,50]"}, "give two or more, none twice"),
        (controlled, {"PERCENTAGES": "[50,101]"}, "at most 100"),
        (controlled, {"PERCENTAGES": "[40,50]"}, "at least 50"),
        (controlled, {"TASK": "onet"}, "this script takes no TASK"),
        (controlled, {"ARCHITECTURE": "resnet50"}, "this script goes by ARCH, not by ARCHITECTURE"),
        (controlled, {"ARCH": "resnet81"}, "did you mean resnet18"),
        (controlled, {"BLOCKS": "[layer5]"}, "layer5"),
        (controlled, {"PERMUTATIONS": 0}, "ALPHA and PERMUTATIONS must not be None or 0"),
        (controlled, {"TWINS": 3}, "the eyeglasses experiment takes no TWINS"),
        (controlled, {"NAME": "grayscale", "DICTIONARY": "x"}, "the grayscale experiment takes no DICTIONARY"),
        (controlled, {"SEED": 3}, "this script goes by SEEDS, not by SEED"),
        (training, {"ALPHA": "None"}, "ALPHA and PERMUTATIONS must not be None or 0"),
        (training, {"NETWORK": "resnet18"}, "give the units of each block"),
        (training, {"VARIANTS": "[+batchnorm]"}, "'+batchnorm' is no change of '32-64-128-256 batchnorm'"),
        (training, {"VARIANTS": "[+dropuot]"}, "give the units of each block"),
        (training, {"VARIANTS": "[x1]"}, "'x1' is no change of"),
        (training, {"NETWORK": "4-4-4-4-4"}, "leave maps without places"),
        (training, {"SEEDS": 2}, "SEEDS is 2: it must be a whole number at least 3"),
    ],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(run_study, study, words, told):
    with pytest.raises(DissectionError, match=None) as error:
        run_study(study, **words)
    assert told in str(error.value)


def test_a_dictionary_without_eyeglasses_is_refused(run_study, small_dictionary):
    with pytest.raises(DissectionError, match="has no concept Eyeglasses"):
        run_study(controlled, NAME="eyeglasses", DICTIONARY=small_dictionary, BLOCKS="[layer1]")


def test_help_lists_the_settings_of_the_study_and_those_it_goes_by(run_study, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["controlled", "--help"])
    with pytest.raises(SystemExit):
        controlled.main()
    said = capsys.readouterr().out
    assert "PERCENTAGES = " in said and "QUANTILE = " in said
    assert "TASK = " not in said and "OUTPUT_FOLDER = " not in said
