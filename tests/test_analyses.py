"""nl_bias.py and cluster_top.py from end to end, on results that main.py left and subgroups made up."""

import csv
import json
import logging
import pickle
import re
import shutil
import sys
from itertools import product

import cv2
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

import cluster_top
import nl_bias
from dictionary.check import find_problems
from dictionary.concepts import REGIONS
from dictionary.images import load_rgb
from dictionary.views import resize_image
from loader.models import load_model
from loader.recorder import ActivationRecorder
from method.bias import BiasFeatures
from method.bias_chance import bias_chance, rank_sums
from method.tally import Tally
from report import bias_comparison, plots
from report.plots import colours, table_pages
from store import bias_stages
from store.arrays import load_as
from store.layer import LayerStore
from tests.conftest import LITTLE_CHANCE, region_of
from tests.test_main import OneFace
from tests.test_probability import plain_region
from util.configuration import AS_PUBLISHED
from util.errors import DissectionError

TASKS = ("pnet", "onet")


@pytest.fixture
def subgroups(small_dictionary):
    """Images of two ages and both genders, unequal in number."""
    random = np.random.default_rng(7)
    for folder, count in {
        "Age/twenty_to_forty": 5, "Age/sixty_plus": 3, "Gender/Male": 4, "Gender/Female": 6,
    }.items():  # fmt: skip
        add_subgroup(small_dictionary / "non_localizable" / folder, count, random)
    return small_dictionary / "non_localizable"


def add_subgroup(place, count, random):
    """Write a folder of made-up images. random: numpy.random.Generator."""
    place.mkdir(parents=True)
    for number in range(count):
        image = cv2.resize(random.integers(0, 256, (6, 5, 3), np.uint8), (50, 60))
        cv2.imwrite(str(place / f"{number}.png"), image)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A function that runs an analysis' main() with settings."""

    def run_script(script, **words):
        defaults = {
            "TASKS": ",".join(TASKS), "LAYER_NAME": "layer3", "INPUT_SIZE": 48, "DICTIONARY": tmp_path / "dictionary",
            "OUTPUT_FOLDER": tmp_path / "result", "NL_FOLDER": tmp_path / "global", "PLOT_FOLDER": tmp_path / "plots",
            "CACHE_FOLDER": tmp_path / "cache", **LITTLE_CHANCE,
        }  # fmt: skip
        monkeypatch.setattr(
            sys, "argv", ["script", *(f"{key}={value}" for key, value in {**defaults, **words}.items())]
        )
        script.main()

    return run_script


def plain_values(content):
    """Whether a value is made of Python's own dicts, texts, ints and floats alone."""
    if type(content) is dict:
        return all(type(key) in (str, int) and plain_values(value) for key, value in content.items())
    return type(content) in (str, int, float)


def message_of(run, script, **words):
    with pytest.raises(DissectionError) as caught:
        run(script, **words)
    return str(caught.value)


# --------------------------------------------------------------------------------------------------------- nl_bias.py


def test_every_concept_and_model_is_analysed_and_compared(subgroups, run, tmp_path, capsys):
    for group in ("red", "blue"):
        add_subgroup(subgroups / "tint" / group, 3, np.random.default_rng(8))
    table = "concept,group,folder\ntint,red,tint/red\ntint,blue,tint/blue\n"
    (subgroups.parent / "groups.csv").write_text(table)
    run(nl_bias)
    for task in TASKS:
        for concept, groups in {"age": (5, 3), "gender": (4, 6), "tint": (3, 3)}.items():
            arrays = np.load(tmp_path / "global" / f"{task}_layer3_model_bias({concept}).npz")
            sizes = [len(arrays[name]) for name in arrays.files if name not in ("p_min", "p_max")]
            assert sizes == list(groups)
            assert (tmp_path / "plots" / f"{task}_layer3_bias({concept}).png").stat().st_size > 5000
        content = pickle.loads((tmp_path / "global" / f"{task}_layer3_nl_probs.pkl").read_bytes())
        assert plain_values(content)
        assert list(content[0]) == ["age", "gender", "tint"]
        assert list(content[0]["age"]) == ["twenty_to_forty", "sixty_plus"]
        text = (tmp_path / "global" / f"{task}_layer3_nl_probs.txt").read_text()
        assert text.count("Unit : ") == len(content)
        assert (tmp_path / "global" / f"{task}_layer3_nl_report.pdf").exists()
    for concept in ("age", "gender", "tint"):
        assert (tmp_path / "plots" / f"bias_comparison({concept}).png").exists()
    assert (tmp_path / "global" / "nl_comparison.pdf").exists()
    out = capsys.readouterr().out
    assert "onet_layer3: 64 units" in out
    assert "unbiased" in out


def test_the_saved_features_are_enough_to_recompute_every_probability(subgroups, run, tmp_path):
    run(nl_bias, PLOT=False)
    arrays = dict(np.load(tmp_path / "global" / "onet_layer3_model_bias(gender).npz"))
    content = pickle.loads((tmp_path / "global" / "onet_layer3_nl_probs.pkl").read_bytes())
    peaks = np.concatenate([arrays["male"], arrays["female"]])
    members = [0] * 4 + [1] * 6
    assert (arrays["p_max"] == peaks.max(axis=0)).all()
    assert (arrays["p_min"] <= peaks.min(axis=0)).all()
    for unit in range(64):
        low, high = float(arrays["p_min"][unit]), float(arrays["p_max"][unit])
        carries = np.equal(np.array(members)[:, None], [0, 1])
        expected = plain_region([1, 1], peaks[:, unit].tolist(), low, high, carries)
        assert list(content[unit]["gender"].values()) == pytest.approx(expected, abs=1e-9)
    assert not (tmp_path / "plots" / "onet_layer3_bias(gender).png").exists()


def test_saved_features_are_reused_while_they_hold(subgroups, run, tmp_path, monkeypatch):
    run(nl_bias, PLOT=False)
    saved = {path: path.stat().st_mtime_ns for path in (tmp_path / "global").glob("*.npz")}
    monkeypatch.setattr(bias_stages, "peaks_of", None)  # a network that ran would fail here
    run(nl_bias, GENERATE=False, PLOT=False)
    run(nl_bias, PLOT=False)
    assert {path: path.stat().st_mtime_ns for path in saved} == saved
    monkeypatch.undo()
    assert "run nl_bias.py with GENERATE=True" in message_of(run, nl_bias, GENERATE=False, PLOT=False, INPUT_SIZE=52)
    cv2.imwrite(str(subgroups / "Gender/Male/0.png"), np.zeros((60, 50, 3), np.uint8))
    assert "model_bias(gender).npz is missing or was made" in message_of(run, nl_bias, GENERATE=False, PLOT=False)
    run(nl_bias, PLOT=False)
    changed = {path.name for path in saved if path.stat().st_mtime_ns != saved[path]}
    assert changed == {f"{task}_layer3_{what}(gender).npz" for task in TASKS for what in ("model_bias", "bias_chance")}


def plain_peaks(paths, box=(slice(None), slice(None))):
    """Greatest and least value of O-Net's layer3 units on each photograph, one forward pass each."""
    model = load_model("onet", ["layer3"])
    greatest, least = [], []
    for path in paths:
        image = load_rgb(path)[box]
        with ActivationRecorder(model.module, model.layers) as recorder:
            maps = recorder.run(model.preprocess(resize_image(image, (48, 48))[None]))["layer3"][0].numpy()
        greatest.append(maps.max(axis=(1, 2)))
        least.append(maps.min(axis=(1, 2)))
    return np.array(greatest), np.array(least).min(axis=0)


def test_the_features_are_the_peaks_of_the_photographs(subgroups, run, tmp_path):
    run(nl_bias, TASKS="onet", PLOT=False, BATCH_SIZE=3)
    arrays = np.load(tmp_path / "global" / "onet_layer3_model_bias(gender).npz")
    men, lowest_of_men = plain_peaks(sorted((subgroups / "Gender/Male").iterdir()))
    women, lowest_of_women = plain_peaks(sorted((subgroups / "Gender/Female").iterdir()))
    assert np.allclose(arrays["male"], men, atol=1e-4)
    assert np.allclose(arrays["female"], women, atol=1e-4)
    assert np.allclose(arrays["p_min"], np.minimum(lowest_of_men, lowest_of_women), atol=1e-4)


def test_a_task_that_crops_sees_the_faces_alone(subgroups, run, tmp_path, monkeypatch):
    monkeypatch.setattr("facenet_pytorch.MTCNN", OneFace)
    cv2.imwrite(str(subgroups / "Gender/Male/2.png"), np.zeros((60, 50, 3), np.uint8))  # in which it finds none
    words = {"TASKS": "onet", "PLOT": False, "CROP": True}
    assert "no face was found in non_localizable/Gender/Male/2.png" in message_of(run, nl_bias, **words)
    run(nl_bias, SKIP_BAD_IMAGES=True, **words)
    arrays = np.load(tmp_path / "global" / "onet_layer3_model_bias(gender).npz")
    seen = [path for path in sorted((subgroups / "Gender/Male").iterdir()) if path.name != "2.png"]
    expected, _ = plain_peaks(seen, box=(slice(6, None), slice(0, 30)))
    assert np.allclose(arrays["male"], expected, atol=1e-4)
    for kept in (tmp_path / "cache").glob("*faces*"):
        kept.unlink()
    message = message_of(run, nl_bias, SKIP_BAD_IMAGES=True, GENERATE=False, **words)
    assert "have not been looked for yet: run with GENERATE=True" in message


def test_empty_subgroups_and_bad_images(subgroups, run, tmp_path):
    for image in (subgroups / "Age/sixty_plus").iterdir():
        image.unlink()
    message = message_of(run, nl_bias)
    assert "subgroup sixty_plus of age: has no usable images" in message
    (subgroups / "Gender/Male/1.png").write_bytes(b"broken")
    assert "non_localizable/Gender/Male/1.png is not a readable image" in message_of(run, nl_bias)
    run(nl_bias, SKIP_BAD_IMAGES=True)
    assert not (tmp_path / "global" / "onet_layer3_model_bias(age).npz").exists()  # one subgroup is nothing to compare
    assert len(np.load(tmp_path / "global" / "onet_layer3_model_bias(gender).npz")["male"]) == 3


def test_errors_of_the_global_analysis(small_dictionary, run, tmp_path):
    assert "holds no subgroup of age, gender, ethnic, skin_tone" in message_of(run, nl_bias)
    assert "no Face Dictionary at" in message_of(run, nl_bias, DICTIONARY=tmp_path / "nowhere")
    message = message_of(run, nl_bias, WEIGHTS=tmp_path / "one.pth")
    assert "WEIGHTS names one checkpoint" in message
    assert "unknown task 'pent': did you mean pnet" in message_of(run, nl_bias, TASK_LAYERS="{'pent': 'layer2'}")
    assert "unknown task 'onte'" in message_of(run, cluster_top, TASKS="onte")
    for name in ("../out", "a/b", "p_min", "file", ".", "a b"):
        for row in (f"tint,{name},tint/red", f"{name},red,tint/red"):
            (small_dictionary / "groups.csv").write_text(f"concept,group,folder\n{row}\n")
            assert f"groups.csv: {name!r} cannot be a name here" in message_of(run, nl_bias)


@pytest.mark.parametrize(
    ("folder", "message"),
    [
        ("Age/Sixty_pluss", "non_localizable/Age/Sixty_pluss: unknown subgroup of age, did you mean sixty_plus?"),
        ("Gender/Males", "non_localizable/Gender/Males: unknown subgroup of gender, did you mean Male"),
        (
            "Gender/Other",
            "unknown subgroup of gender, known: Male, Female (one of the dictionary's own needs",
        ),
        ("Genders/Male", "non_localizable/Genders: unknown global concept, did you mean Gender?"),
        ("Etnicity/white", "non_localizable/Etnicity: unknown global concept, did you mean Ethnicity?"),
        ("Gender/male", "non_localizable/Gender: Male and male differ by capitals alone: put their images into one"),
        ("GENDER/Male", "non_localizable: GENDER and Gender differ by capitals alone"),
    ],
)
def test_a_folder_of_subgroups_that_no_table_names_is_an_error(subgroups, run, small_dictionary, folder, message):
    add_subgroup(subgroups / folder, 2, np.random.default_rng(1))
    assert message in message_of(run, nl_bias, TASKS="onet")
    assert message in "\n".join(map(str, find_problems(small_dictionary, workers=1)[0]))
    run(nl_bias, TASKS="onet", SKIP_BAD_IMAGES=True, PLOT=False)


def test_folders_match_whatever_their_capitals(subgroups, run, tmp_path, caplog, monkeypatch):
    shown = []  # on the first page of the report
    monkeypatch.setattr("report.plots.table_pages", lambda *of: shown.extend(of[2]) or table_pages(*of))
    (subgroups / "Age").rename(subgroups / "AGE")
    (subgroups / "AGE" / "sixty_plus").rename(subgroups / "AGE" / "Sixty_Plus")
    (subgroups / "Gender" / "Male").rename(subgroups / "Gender" / "MALE")
    caplog.set_level(logging.INFO)
    run(nl_bias, TASKS="onet", PLOT=False)
    for concept, sizes in {"age": {"twenty_to_forty": 5, "sixty_plus": 3}, "gender": {"male": 4, "female": 6}}.items():
        arrays = np.load(tmp_path / "global" / f"onet_layer3_model_bias({concept}).npz")
        assert {name: len(arrays[name]) for name in arrays.files if name not in ("p_min", "p_max")} == sizes
    missing = "no folder for zero_to_twenty of age, forty_to_sixty of age"
    assert f"note: non_localizable: {missing}" in caplog.text
    assert any(missing in note for note in shown)
    assert "not analysed, for lack of images: ethnic, skin_tone" in shown


def test_a_result_of_a_concept_that_is_no_longer_there_is_set_aside(subgroups, run, tmp_path, caplog):
    run(nl_bias, TASKS="onet")
    shutil.rmtree(subgroups / "Age")
    caplog.set_level(logging.INFO)
    run(nl_bias, TASKS="onet")
    left = {path.name for path in (tmp_path / "global").iterdir() if path.is_file()}
    assert "onet_layer3_model_bias(gender).npz" in left and "onet_layer3_model_bias(age).npz" not in left
    assert (tmp_path / "global" / "earlier" / "onet_layer3_model_bias(age).npz").is_file()
    assert not (tmp_path / "plots" / "onet_layer3_bias(age).png").exists()
    assert not (tmp_path / "plots" / "bias_comparison(age).png").exists()
    assert "age is not analysed any more: what was found about it lies in" in caplog.text
    assert list(pickle.loads((tmp_path / "global" / "onet_layer3_nl_probs.pkl").read_bytes())[0]) == ["gender"]


def test_without_plots_those_of_other_numbers_are_set_aside(subgroups, run, tmp_path):
    run(nl_bias, TASKS="onet")
    run(nl_bias, TASKS="onet", PRESET="published", PLOT=False)
    assert not (tmp_path / "plots" / "onet_layer3_bias(age).png").exists()
    assert (tmp_path / "plots" / "earlier" / "onet_layer3_bias(age).png").is_file()


def test_what_was_left_out_stands_in_the_report(subgroups, run, monkeypatch):
    shown = []
    monkeypatch.setattr("report.plots.table_pages", lambda *of: shown.append(of[2]) or table_pages(*of))
    add_subgroup(subgroups / "Gender" / "MALE", 1, np.random.default_rng(1))
    add_subgroup(subgroups / "Gender" / "Female" / "more", 1, np.random.default_rng(1))
    run(nl_bias, TASKS="onet", SKIP_BAD_IMAGES=True, PLOT=False)
    told = "\n".join(shown[0])
    assert "left out: non_localizable/Gender: MALE and Male differ by capitals alone" in told
    assert "Gender/Female: images in folders within it are not read: more" in told
    assert "age: " in told and "gender: a unit" not in told  # neither of the two folders is taken for the subgroup


def test_images_without_a_face_stand_in_the_report(subgroups, run, monkeypatch):
    shown = []
    monkeypatch.setattr("report.plots.table_pages", lambda *of: shown.append(of[2]) or table_pages(*of))
    monkeypatch.setattr("facenet_pytorch.MTCNN", OneFace)
    cv2.imwrite(str(subgroups / "Gender/Male/2.png"), np.zeros((60, 50, 3), np.uint8))  # in which it finds none
    run(nl_bias, TASKS="onet", CROP=True, SKIP_BAD_IMAGES=True, PLOT=False)
    assert any("left out: non_localizable: no face was found in" in note for note in shown[0])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("hat,with,Hats/with\nhat,other,Hats/With", "the folder Hats/With is that of another subgroup of hat"),
        ("gender,other,Gender/male", "the folder Gender/male is that of another subgroup of gender"),
        ("sex,male,Gender/Male", "the folder Gender of sex is that of gender"),
    ],
)
def test_a_folder_is_one_subgroup_and_no_second(subgroups, run, small_dictionary, rows, message):
    (small_dictionary / "groups.csv").write_text(f"concept,group,folder\n{rows}\n")
    assert message in message_of(run, nl_bias, TASKS="onet")


def test_a_task_may_have_a_layer_of_its_own(subgroups, run, tmp_path):
    run(nl_bias, TASK_LAYERS="{'pnet': 'layer2'}", PLOT=False)
    names = {path.name.partition("_nl")[0] for path in (tmp_path / "global").glob("*_nl_probs.pkl")}
    assert names == {"pnet_layer2", "onet_layer3"}


# ------------------------------------------------------------------------------------------ chance beside every verdict


@pytest.fixture
def photographs(small_dictionary):
    """40 dark pictures of men and 40 bright ones of women, of which two thirds lie in folders of two ages as well, and
    one of them in both. Returns {concept: {path of a photograph's content: subgroup}}.
    """
    random, place = np.random.default_rng(11), small_dictionary / "non_localizable"
    labels = {"gender": {}, "age": {}}
    for group, brightest in (("Male", 200), ("Female", 256)):
        for number in range(40):
            image = cv2.resize(random.integers(0, brightest, (6, 5, 3), np.uint8), (50, 60))
            content = cv2.imencode(".png", image)[1].tobytes()
            of_age = {0: ["twenty_to_forty"], 1: ["sixty_plus"], 2: []}[number % 3]
            of_age = ["twenty_to_forty", "sixty_plus"] if (group, number) == ("Male", 5) else of_age
            for folder in (f"Gender/{group}", *(f"Age/{age}" for age in of_age)):
                (place / folder).mkdir(parents=True, exist_ok=True)
                (place / folder / f"{group}{number:02d}.png").write_bytes(content)
            labels["gender"][f"{group}{number:02d}.png"] = group.lower()
            if len(of_age) == 1:
                labels["age"][f"{group}{number:02d}.png"] = of_age[0]
    return labels


def chance_of(tmp_path, layer="onet_layer3"):
    """What stands in the pickle of chance, once it is plain and the table says the same."""
    content = pickle.loads((tmp_path / "global" / f"{layer}_nl_chance.pkl").read_bytes())
    assert plain_values(content)
    with open(tmp_path / "global" / f"{layer}_nl_chance.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == sum(len(groups) for of in content.values() for groups in of.values())
    for row in rows:
        for name, value in content[int(row["unit"])][row["concept"]][row["group"]].items():
            assert row[name] == (value if name == "verdict" else "" if value != value else repr(value)), name
    return content


def peaks_of(path):
    arrays = np.load(path)
    return arrays["male"].astype(float), arrays["female"].astype(float)


def plain_auc(first, second):
    return sum((a > b) + (a == b) / 2 for a in first.tolist() for b in second.tolist()) / (len(first) * len(second))


def test_every_unit_has_its_chance_and_its_untrained_twins(photographs, run, tmp_path, capsys):
    run(nl_bias, PLOT=False, TASKS="onet", TWINS=2, BOOTSTRAPS=20)
    folder = tmp_path / "global"
    found, published = chance_of(tmp_path), pickle.loads((folder / "onet_layer3_nl_probs.pkl").read_bytes())
    of_twins = []
    for seed in (0, 1):
        men, women = peaks_of(folder / "twins" / f"onet_random{seed}_layer3_model_bias(gender).npz")
        of_twins += [abs(plain_auc(men[:, unit], women[:, unit]) - 0.5) for unit in range(64)]
    men, women = peaks_of(folder / "onet_layer3_model_bias(gender).npz")
    cut_off, said = 0.55, set()
    for unit in range(64):
        auc = plain_auc(men[:, unit], women[:, unit])
        twin = sum(round(other, 12) >= round(abs(auc - 0.5), 12) for other in of_twins) / 128
        for group, of_group in found[unit]["gender"].items():
            assert of_group["probability"] == published[unit]["gender"][group]
            assert of_group["auc"] == pytest.approx(auc if group == "male" else 1 - auc, abs=1e-12)
            assert of_group["twin"] == pytest.approx(twin, abs=1e-12)
            assert of_group["low"] <= of_group["high"] and of_group["auc_low"] <= of_group["auc_high"]
            expected = "unbiased" if of_group["probability"] < cut_off else (
                "not shown" if of_group["q"] > 0.05 or of_group["auc"] <= 0.5 else
                "as without training" if twin > 0.05 else "biased")  # fmt: skip
            assert of_group["verdict"] == expected
            said.add(expected)
    assert len(said) > 2
    out = capsys.readouterr().out
    for verdict in said:
        of_groups = zip(*([group["verdict"] for group in of["gender"].values()] for of in found.values()), strict=True)
        counts = [of_group.count(verdict) for of_group in of_groups]
        assert re.search(rf"  {verdict} +{counts[0]} +{counts[1]}\n", out), verdict
    shares = [np.mean([max(of["gender"].values()) >= 0.55 for of in published.values()])]
    for seed in (0, 1):
        arrays = np.load(folder / f"twins/onet_random{seed}_layer3_model_bias(gender).npz")
        features = BiasFeatures.of_arrays(dict(arrays), "")
        shares.append((features.probabilities().max(axis=1) >= 0.55).mean())
    own, *others = (f"{share:.1%}" for share in shares)
    assert f"units beyond the cut-off is {own}, its untrained twins' {', '.join(others)}" in out


def test_images_are_compared_with_those_whose_other_labels_agree(photographs, run, tmp_path, capsys):
    run(nl_bias, PLOT=False, TASKS="onet")
    men, women = peaks_of(tmp_path / "global" / "onet_layer3_model_bias(gender).npz")
    names = sorted(name for name in photographs["gender"] if name.startswith("Male"))
    names += sorted(name for name in photographs["gender"] if name.startswith("Female"))
    of_age = [photographs["age"].get(name, "") for name in names]  # one that lies in two of its folders has none
    strata = np.array([sorted(set(of_age)).index(age) for age in of_age])
    expected = rank_sums(np.concatenate([men, women]).T, np.repeat([0, 1], 40), strata)[3]
    found = [[group["p"] for group in of["gender"].values()] for of in chance_of(tmp_path).values()]
    assert np.allclose(found, expected, rtol=1e-9)
    assert "gender: 40 male, 40 female photographs; p within 3 strata whose labels agree" in capsys.readouterr().out


def test_the_text_keeps_its_published_lines(photographs, run, tmp_path):
    run(nl_bias, PLOT=False, TASKS="onet")
    lines = (tmp_path / "global" / "onet_layer3_nl_probs.txt").read_text().splitlines(keepends=True)
    text, found = "".join(line for line in lines if not line.startswith("\tchance : ")), chance_of(tmp_path)
    pattern = r"Unit : \d+\n(\tConcept : \w+\n\t\{\n(\t\t\w+ : [\d.e-]+\n)+\t\}\n\t(unbiased|biased : .*)\n)+"
    assert re.fullmatch(f"({pattern})+", text)
    assert f"\tchance : male {found[0]['gender']['male']['verdict']}, 95 % " in "".join(lines)
    assert len(lines) - text.count("\n") == 64 * 4


def test_rendered_faces_are_compared_with_their_own_twins(small_dictionary, run, tmp_path, capsys):
    random, place = np.random.default_rng(5), small_dictionary / "non_localizable"
    add_subgroup(place / "Gender" / "Male", 10, random)
    add_subgroup(place / "Gender" / "Female", 11, random)
    (place / "Gender" / "Male" / "3.png").rename(place / "Gender" / "Male" / "alone.png")
    (small_dictionary / "rendered.json").write_text("{}")
    run(nl_bias, PLOT=False, TASKS="onet")
    men, women = peaks_of(tmp_path / "global" / "onet_layer3_model_bias(gender).npz")
    names = [sorted(path.name for path in (place / "Gender" / group).iterdir()) for group in ("Male", "Female")]
    both = [name for name in names[0] if name in names[1]]
    differences = [men[names[0].index(name)] - women[names[1].index(name)] for name in both]
    signs = np.array(list(product((1, -1), repeat=9)))
    drawn, observed = np.abs(signs @ np.array(differences)), np.abs(np.sum(differences, axis=0))
    expected = (drawn >= observed * (1 - 1e-9)).mean(axis=0)
    found = [[group["p"] for group in of["gender"].values()] for of in chance_of(tmp_path).values()]
    assert len(both) == 9 and np.allclose(found, expected[:, None], atol=1e-12)
    assert "p of 9 sets of faces that differ in nothing but the subgroup" in capsys.readouterr().out


def test_what_is_left_out_is_said(photographs, run, tmp_path, capsys, monkeypatch):
    notes = notes_of_comparisons(monkeypatch)
    run(nl_bias, PLOT=False, TWINS=0, BOOTSTRAPS=None, ALPHA=None)
    out = capsys.readouterr().out
    for part in ("ALPHA=None judges nothing", "untrained twins' left out", "BOOTSTRAPS left the intervals"):
        assert part in out
    assert "biased means" not in out + "".join(notes[0])  # nothing is called so
    found = [group for of in chance_of(tmp_path).values() for groups in of.values() for group in groups.values()]
    assert {group["verdict"] for group in found} == {"too few images", "unbiased", "not judged"}
    assert all(np.isnan([group["low"], group["high"], group["twin"]]).all() for group in found)
    assert not (tmp_path / "global" / "twins").exists()
    with open(tmp_path / "global" / "bias_comparison.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 4 and {row["share"] for row in rows} == {""}
    run(nl_bias, PLOT=False, TWINS=0, BOOTSTRAPS=0)
    assert "TWINS left the untrained twins out: biased means no more" in capsys.readouterr().out
    assert not [note for note in notes[1] if "same resamples" in note]
    with open(tmp_path / "global" / "bias_comparison.csv", newline="", encoding="utf-8") as file:
        pairs = [row for row in csv.DictReader(file) if row["other_layer"]]
    assert pairs and {row[name] for row in pairs for name in ("p", "q", "beyond_chance")} == {""}
    verdicts = {group["verdict"] for of in chance_of(tmp_path).values() for group in of["gender"].values()}
    assert "biased" in verdicts and "as without training" not in verdicts


def test_a_missing_twin_is_named_where_no_network_may_run(photographs, run):
    run(nl_bias, PLOT=False, TASKS="onet", TWINS=1)
    run(nl_bias, PLOT=False, TASKS="onet", TWINS=1, GENERATE=False)
    message = message_of(run, nl_bias, TASKS="onet", TWINS=2, GENERATE=False)
    assert "twins/onet_random1_layer3_model_bias(age).npz is missing" in message
    assert "run nl_bias.py with GENERATE=True, or TWINS=0 to go without untrained twins" in message
    assert "TWINS" not in message_of(run, nl_bias, TASKS="pnet", GENERATE=False)


def test_chance_is_computed_anew_when_what_it_rests_on_changes(photographs, run, tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr(bias_stages, "bias_chance", lambda *of: done.append(of) or bias_chance(*of))
    run(nl_bias, PLOT=False, TASKS="onet")
    assert len(done) == 2 * 2  # age and gender of network and twin
    run(nl_bias, PLOT=False, TASKS="onet", ALPHA=0.01)
    assert len(done) == 4
    run(nl_bias, PLOT=False, TASKS="onet", BOOTSTRAPS=6)
    assert len(done) == 8
    place = tmp_path / "dictionary" / "non_localizable" / "Age"
    (place / "sixty_plus" / "Male01.png").rename(place / "twenty_to_forty" / "Male01.png")
    run(nl_bias, PLOT=False, TASKS="onet", BOOTSTRAPS=6)
    assert len(done) == 12  # of gender, too, whose images are the same
    run(nl_bias, PLOT=False, TASKS="onet", BOOTSTRAPS=6, PRESET="published")
    assert len(done) == 16


def notes_of_comparisons(monkeypatch):
    """A list that gets the notes of every comparison's PDF."""
    notes, write = [], bias_comparison.write_pdf
    monkeypatch.setattr(bias_comparison, "write_pdf", lambda *of: notes.append(of[3]) or write(*of))
    return notes


def test_models_are_compared_over_the_same_resamples(photographs, run, tmp_path, monkeypatch):
    notes = notes_of_comparisons(monkeypatch)
    run(nl_bias, PLOT=False, BOOTSTRAPS=20)
    with open(tmp_path / "global" / "bias_comparison.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    models = {(row["concept"], row["group"], row["layer"]): row for row in rows if not row["other_layer"]}
    pairs = [row for row in rows if row["other_layer"]]
    assert len(models) == 8 and len(pairs) == 4
    for (concept, group, layer), row in models.items():
        verdicts = [of[concept][group]["verdict"] for of in chance_of(tmp_path, layer).values()]
        assert int(row["biased"]) == verdicts.count("biased") and int(row["units"]) == len(verdicts)
        assert float(row["share"]) == verdicts.count("biased") / len(verdicts)
        assert 0 <= float(row["low"]) <= float(row["high"]) <= 1
        counted = csv.DictReader((tmp_path / "global" / f"{layer}_nl_counts.csv").read_text().splitlines())
        twins = [of for of in counted if (of["concept"], of["group"]) == (concept, group) and of["of"] != "network"]
        shares = [int(of["biased"]) / int(of["units"]) for of in twins]
        assert float(row["share_of_twins"]) == pytest.approx(sum(shares) / len(shares))
    for row in pairs:
        one, other = (models[row["concept"], row["group"], row[name]] for name in ("layer", "other_layer"))
        assert float(row["difference"]) == float(one["share"]) - float(other["share"])
        assert float(row["difference_low"]) <= float(row["difference_high"])
        assert row["beyond_chance"] in ("0", "1")
    assert len([note for note in notes[0] if "same resamples" in note]) == 1
    for concept in ("age", "gender"):
        assert (tmp_path / "plots" / f"bias_verdicts({concept}).png").stat().st_size > 5000


# ----------------------------------------------------------------------------------------------------- cluster_top.py


@pytest.fixture
def dissected(small_dictionary, run_main, no_pdfs):
    for task in TASKS:
        run_main(TASK=task)
    return run_main


def test_the_hierarchy_equals_the_plain_loop(dissected, run, tmp_path):
    run(cluster_top, SCORE_THRESHOLD=0.005)
    result = tmp_path / "result"
    for task in TASKS:
        tally = load_as(Tally, result / f"{task}_layer3_tally.npz")
        maps = np.memmap(
            result / f"{task}_layer3.mmap", np.float32, "r",
            shape=tuple(np.load(result / f"{task}_layer3_feature_size.npy")),
        )  # fmt: skip
        content = pickle.loads((result / f"{task}_layer3_unit_concept_probs.pkl").read_bytes())
        assert plain_values(content)
        interpretable = np.flatnonzero(tally.tally.max(axis=1) > 0.005)
        assert list(content) == interpretable.tolist()
        assert len(content) > 3
        for unit in interpretable.tolist():
            region = region_of(str(tally.concepts[tally.tally[unit].argmax()]))
            columns = [i for i, concept in enumerate(tally.concepts) if concept in REGIONS[region]]
            images = [image for image in range(12) if tally.carries[image, columns].any()]
            peaks = [float(maps[image, unit].max()) for image in images]
            expected = plain_region(
                tally.tally[unit, columns].tolist(), peaks, float(maps[:, unit].min()), float(maps[:, unit].max()),
                tally.carries[np.ix_(images, columns)],
            )  # fmt: skip
            assert list(content[unit]) == [str(tally.concepts[column]) for column in columns]
            assert list(content[unit].values()) == pytest.approx(expected, abs=1e-9)


def test_the_text_and_the_table_are_those_of_the_method(dissected, run, tmp_path, capsys):
    run(cluster_top, SCORE_THRESHOLD=0.005)
    content = pickle.loads((tmp_path / "result" / "onet_layer3_unit_concept_probs.pkl").read_bytes())
    tally = load_as(Tally, tmp_path / "result" / "onet_layer3_tally.npz")
    expected, detected = "", {str(concept): 0 for concept in tally.concepts}
    for unit, probabilities in content.items():
        top = str(tally.concepts[tally.tally[unit].argmax()])
        expected += (
            f"Unit : {unit}\n\tConcept : {top}, IoU : {tally.tally[unit].max():.4f}, Cluster : {region_of(top)}\n\t{{\n"
        )
        for concept, probability in probabilities.items():
            expected += f"\t\t{concept} : {probability}\n"
            detected[concept] += probability > 1.5 / len(probabilities)
        expected += "\t}\n"
    text = (tmp_path / "result" / "onet_layer3_unit_concept_probs.txt").read_text()
    published = [line for line in text.splitlines(keepends=True) if " : " in line or line.strip() in ("{", "}")]
    assert "".join(published) == expected
    with open(tmp_path / "result" / "onet_layer3_detected_concepts.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["concept"]: int(row["units_that_detect_it"]) for row in rows} == detected
    assert sum(int(row["units_with_top_concept"]) for row in rows) == len(content)
    out = capsys.readouterr().out
    assert f"onet_layer3: 64 units, {len(content)} interpretable" in out
    assert f"Unlocalizable {64 - len(content)}" in out
    for name in (
        "onet_layer3_units_per_concept",
        "pnet_layer3_units_per_concept",
        "hierarchy_units_per_region",
        "hierarchy_detected_concepts_per_type",
    ):
        assert (tmp_path / "plots" / f"{name}.png").stat().st_size > 5000
    assert (tmp_path / "result" / "hierarchy_comparison.pdf").exists()
    assert (tmp_path / "result" / "onet_layer3_hierarchy_report.pdf").exists()


def test_no_interpretable_unit_is_no_error(dissected, run, tmp_path):
    run(cluster_top, SCORE_THRESHOLD=0.99)
    assert pickle.loads((tmp_path / "result" / "onet_layer3_unit_concept_probs.pkl").read_bytes()) == {}
    assert (tmp_path / "result" / "onet_layer3_unit_concept_probs.txt").read_text() == ""


def test_a_task_that_has_not_been_dissected_is_named_with_the_command(dissected, run, tmp_path):
    message = message_of(run, cluster_top, TASKS="pnet,rnet,onet")
    assert "layers that cannot be used: 1" in message
    assert "_tally.npz has not been made yet" in message or ".mmap has not been made yet" in message
    assert "python main.py TASK=rnet LAYER_NAME=layer3 CLEAN=False" in message
    assert f"OUTPUT_FOLDER={tmp_path / 'result'}" in message
    assert "SKIP_MISSING=True" in message
    run(cluster_top, TASKS="pnet,rnet,onet", SKIP_MISSING=True)
    assert "rnet" in message_of(run, cluster_top, TASKS="rnet", SKIP_MISSING=True)


def test_artifacts_that_do_not_belong_together_are_refused(dissected, run, tmp_path):
    result = tmp_path / "result"
    manifest = json.loads((result / "onet_layer3_manifest.json").read_text())
    manifest["files"][".mmap"]["digest"] = "0" * 64
    (result / "onet_layer3_manifest.json").write_text(json.dumps(manifest))
    assert "was not made from the memory map beside it" in message_of(run, cluster_top)
    tally = result / "pnet_layer3_tally.npz"
    tally.write_bytes(tally.read_bytes()[:-10])
    assert "was changed after it was made" in message_of(run, cluster_top, TASKS="pnet")


def test_layers_of_another_dictionary_are_compared_with_a_remark(dissected, run, small_dictionary, caplog):
    with caplog.at_level(logging.INFO):
        run(cluster_top)
    assert "beware" not in caplog.text
    mask = next(small_dictionary.glob("*/000003/[!o]*.png"))
    cv2.imwrite(str(mask), 255 - cv2.imread(str(mask), cv2.IMREAD_GRAYSCALE))
    dissected(TASK="pnet")
    with caplog.at_level(logging.INFO):
        run(cluster_top)
    assert "beware: made with different dictionary masks: onet_layer3 | pnet_layer3" in caplog.text


@pytest.mark.usefixtures("no_pdfs")
@pytest.mark.parametrize(
    ("then", "now", "told"),
    [
        ({"QUANTILE": 0.02}, {}, "QUANTILE=0.02 and this run has QUANTILE=0.005: give this run QUANTILE=0.02, or"),
        ({}, {"QUANTILE": 0.02}, "QUANTILE=0.005 and this run has QUANTILE=0.02"),
        ({"IOU_UNION": "active"}, {}, "IOU_UNION='active' and this run has IOU_UNION='all'"),
        ({}, {"IOU_UNION": "active"}, "IOU_UNION='all' and this run has IOU_UNION='active'"),
        ({"SEG_THRESHOLD": 0.2}, {}, "SEG_THRESHOLD=0.2 and this run has SEG_THRESHOLD=0.5"),
        ({"INPUT_SIZE": 64}, {}, "INPUT_SIZE=64 and this run has INPUT_SIZE=48"),
        ({"FEATURE_DTYPE": "float16"}, {}, "FEATURE_DTYPE='float16' and this run has FEATURE_DTYPE='float32'"),
        ({}, {"CROP": True}, "CROP='whole' and this run has CROP=True"),
        ({}, {"WEIGHTS": "model/another.pth"}, "WEIGHTS=None and this run has WEIGHTS='model/another.pth'"),
        ({"WEIGHTS": "random", "SEED": 3}, {"WEIGHTS": "random"}, "SEED=3 and this run has SEED=0"),
        ({}, {"PRESET": "published"}, "QUANTILE=0.005 and this run has QUANTILE=0.05"),
        ({}, {"DICTIONARY": "elsewhere"}, "DICTIONARY='{dictionary}' and this run has DICTIONARY='elsewhere'"),
    ],
)
def test_a_tally_of_other_settings_is_refused_with_both_values_and_the_command(
    small_dictionary, run_main, run, tmp_path, then, now, told
):
    run_main(TASK="pnet", **then)
    message = message_of(run, cluster_top, TASKS="pnet", **now)
    assert f"it was dissected with {told.format(dictionary=small_dictionary)}" in message
    assert "or dissect it anew with\n    python main.py TASK=pnet LAYER_NAME=layer3 CLEAN=False" in message
    assert all(f"{name}={value}" in message for name, value in now.items())
    run(cluster_top, TASKS="pnet", **then)
    twin = "_random" if "WEIGHTS" in then else ""
    used = json.loads((tmp_path / "result" / f"hierarchy{twin}_settings.json").read_text())
    (layer,) = used["dissected with"].values()
    assert all(used[name] == layer[name] == value for name, value in then.items())


@pytest.mark.usefixtures("no_pdfs")
def test_advice_beside_a_preset_can_be_followed(small_dictionary, run_main, run):
    run_main(TASK="pnet")
    advice = "give this run PRESET=None QUANTILE=0.005 IOU_UNION=all, or"
    assert advice in message_of(run, cluster_top, TASKS="pnet", PRESET="published")
    run(cluster_top, TASKS="pnet", PRESET=None, QUANTILE=0.005, IOU_UNION="all")


@pytest.mark.usefixtures("no_pdfs")
def test_a_test_and_a_dictionary_with_rows_left_out_are_not_taken_for_the_whole(small_dictionary, run_main, run):
    result = run_main(TASK="pnet", TEST_MODE=True, TEST_IMAGES=5)
    folder = result.parent / f"{result.name}_test"
    message = message_of(run, cluster_top, TASKS="pnet", OUTPUT_FOLDER=folder)
    assert "TEST_MODE=True and this run has TEST_MODE=False" in message
    run(cluster_top, TASKS="pnet", TEST_MODE=True, TEST_IMAGES=5)
    next(small_dictionary.rglob("original.png")).write_bytes(b"no image")
    run_main(TASK="pnet", SKIP_BAD_IMAGES=True)
    message = message_of(run, cluster_top, TASKS="pnet")
    assert "SKIP_BAD_IMAGES=True and this run has SKIP_BAD_IMAGES=False" in message
    run(cluster_top, TASKS="pnet", SKIP_BAD_IMAGES=True)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({"INPUT_SIZE": "112,96,100"}, "INPUT_SIZE is (112, 96, 100): give the side of a square, or height and width"),
        ({"CROP": "nonsense"}, "CROP is 'nonsense': it must be such as 'whole', 'box'"),
        ({"CROP": "whole", "ALIGN_JITTER": 0.1}, "ALIGN_JITTER moves crops, and CROP='whole' has none"),
        ({"WEIGHTS": "random", "CHECKPOINT_KEY": "ema"}, "CHECKPOINT_KEY chooses among weights, and WEIGHTS='random'"),
    ],
)
def test_settings_that_make_no_sense_are_refused_before_any_layer_is_looked_at(
    subgroups, run_main, run, words, told
):
    for script in (cluster_top, nl_bias):
        message = message_of(run, script, **words)
        assert told in message and "main.py" not in message
    with pytest.raises(DissectionError) as caught:
        run_main(**words)
    assert told in str(caught.value)


@pytest.mark.usefixtures("no_pdfs")
def test_a_tally_of_another_version_is_refused(small_dictionary, run_main, run):
    manifest = run_main(TASK="pnet") / "pnet_layer3_manifest.json"
    run(cluster_top, TASKS="pnet")
    content = json.loads(manifest.read_text())
    content["files"]["_tally.npz"]["made_from"]["version"] -= 1
    manifest.write_text(json.dumps(content))
    assert "_tally.npz was made by another version of the program" in message_of(run, cluster_top, TASKS="pnet")


@pytest.mark.usefixtures("no_pdfs")
def test_a_memory_map_that_was_deleted_is_said_to_be(small_dictionary, run_main, run):
    run_main(TASK="pnet", CLEAN=True)
    message = message_of(run, cluster_top, TASKS="pnet")
    assert ".mmap was made and is not there any more (CLEAN=True deletes memory maps)" in message


def test_the_comparison_of_the_untrained_twin_stands_beside_the_other(subgroups, run_main, run, tmp_path):
    run_main(TASK="onet")
    run_main(TASK="onet", WEIGHTS="random")
    for script in (nl_bias, cluster_top):
        run(script, TASKS="onet")
    names = [
        "global/nl_comparison.pdf",
        "result/hierarchy_comparison.pdf",
        "global/nl_bias_settings.json",
        "result/hierarchy_settings.json",
        "plots/bias_comparison(age).png",
        "plots/hierarchy_units_per_region.png",
    ]
    kept = {name: (tmp_path / name).read_bytes() for name in names}
    for script in (nl_bias, cluster_top):
        run(script, TASKS="onet", WEIGHTS="random")
    assert {name: (tmp_path / name).read_bytes() for name in names} == kept
    for name in names:
        beside = re.sub(r"(_settings)?(\.\w+)$", r"_random\1\2", name)
        assert (tmp_path / beside).is_file(), beside


@pytest.mark.usefixtures("no_pdfs")
def test_what_none_stands_for_is_no_difference(small_dictionary, run_main, run):
    run_main(TASK="pnet", INPUT_SIZE=None)
    run(cluster_top, TASKS="pnet", INPUT_SIZE=128, CROP=False)
    assert "INPUT_SIZE=128 and this run has INPUT_SIZE=64" in message_of(run, cluster_top, TASKS="pnet", INPUT_SIZE=64)


@pytest.mark.usefixtures("no_pdfs")
def test_the_published_preset_counts_as_the_published_program(
    small_dictionary, run_main, run, tmp_path, subgroups, monkeypatch
):
    told = []  # the notes on the first page of every report
    monkeypatch.setattr("report.plots.table_pages", lambda *of: told.append(of[2]) or table_pages(*of))
    result = run_main(PRESET="published")
    tally = load_as(Tally, result / "onet_layer3_tally.npz")
    assert str(tally.iou_union) == "active"
    snapshot = json.loads((result / "onet_layer3_settings.json").read_text())
    assert (snapshot["PRESET"], snapshot["QUANTILE"], snapshot["IOU_UNION"]) == ("published", 0.05, "active")
    threshold = float(np.sort(tally.tally.max(axis=1))[20])  # a unit lies exactly at it
    words = {"TASKS": "onet", "PRESET": "published", "SCORE_THRESHOLD": threshold}
    run(cluster_top, **words)
    content = pickle.loads((result / "onet_layer3_unit_concept_probs.pkl").read_bytes())
    assert list(content) == np.flatnonzero(tally.tally.max(axis=1) >= threshold).tolist()
    with open(result / "onet_layer3_detected_concepts.csv", newline="", encoding="utf-8") as file:
        detected = {row["concept"]: int(row["units_that_detect_it"]) for row in csv.DictReader(file)}
    limits = {region: 1.5 / len(concepts) for region, concepts in REGIONS.items()}  # of all the region's concepts
    shares = [share for of in content.values() for share in of.items()]
    assert detected == {
        concept: sum(name == concept and share > limits[region_of(concept)] for name, share in shares)
        for concept in detected
    }
    run(nl_bias, **words)
    arrays = np.load(tmp_path / "global" / "onet_layer3_model_bias(gender).npz")
    features = BiasFeatures.of_arrays(dict(arrays), "")
    found = pickle.loads((tmp_path / "global" / "onet_layer3_nl_probs.pkl").read_bytes())
    expected = features.probabilities("order")
    assert [list(of["gender"].values()) for of in found.values()] == expected.tolist()
    assert [AS_PUBLISHED in notes for notes in told] == [True] * 4
    message = message_of(run, nl_bias, TASKS="onet", PRESET="published", QUANTILE=0.01)
    assert message == "QUANTILE=0.01 and a PRESET that sets 0.05: leave one of them out"


def test_a_task_half_dissected_is_missing_too(dissected, run, tmp_path):
    artifacts = LayerStore(tmp_path / "result", "pnet_layer3")
    artifacts.forget("_tally.npz")
    assert "python main.py TASK=pnet LAYER_NAME=layer3" in message_of(run, cluster_top)
    run(cluster_top, SKIP_MISSING=True)
    manifest = json.loads(artifacts.path("_manifest.json").read_text())
    manifest["files"]["_tally.npz"] = {**manifest["files"]["_quantile.npy"], "made_from": {}}
    artifacts.path("_manifest.json").write_text(json.dumps(manifest))
    assert "pnet_layer3" in message_of(run, cluster_top)


def test_first_pages_name_every_layer_as_its_files_are_named(subgroups, run_main, run, monkeypatch):
    shown = []
    monkeypatch.setattr("report.plots.table_pages", lambda *of: shown.append(of) or table_pages(*of))
    run_main(TASK="pnet")
    for script in (nl_bias, cluster_top):
        run(script, TASKS="pnet")
        title, about, *_ = shown[-1]
        assert title.endswith("compared")
        assert about["pnet_layer3"].startswith("layer layer3 (module prelu3)") and "layer" not in about
        assert about["network"] == "P-Net of MTCNN (pnet)"


def test_the_images_of_a_bias_report_are_those_that_were_used(subgroups, run, monkeypatch, capsys):
    monkeypatch.setattr("facenet_pytorch.MTCNN", OneFace)
    cv2.imwrite(str(subgroups / "Gender/Male/2.png"), np.zeros((60, 50, 3), np.uint8))  # in which it finds none
    run(nl_bias, TASKS="onet", CROP=True, SKIP_BAD_IMAGES=True, PLOT=False)
    assert "17 images of subgroups" in capsys.readouterr().out
    shutil.rmtree(subgroups / "Age" / "sixty_plus")  # one subgroup alone is none
    run(nl_bias, TASKS="onet", CROP=True, SKIP_BAD_IMAGES=True, PLOT=False)
    assert "9 images of subgroups" in capsys.readouterr().out


def test_tables_that_do_not_fit_begin_a_new_page():
    rows = [
        ("model", "male", "female"),
        *((f"a rather long name of a layer {number}", "1", "2") for number in range(20)),
    ]
    figures = table_pages("Title", {"network": "n " * 90}, ["a note"], [rows] * 6)
    assert len(figures) == 6
    lowest = min(text.get_position()[1] for figure in figures for text in figure.texts)
    assert lowest > 0
    assert min(text.get_fontsize() for figure in figures for text in figure.texts) > 7
    table = [("region", *["torchvision_random_layer1.2.conv1"] * 3), ("a", *"123")]
    (long_names,) = table_pages("Title", {}, [], [table])
    renderer = FigureCanvasAgg(long_names).get_renderer()
    extents = [text.get_window_extent(renderer) for text in long_names.texts if text.get_text().startswith("torch")]
    assert all(left.x1 < right.x0 for left, right in zip(extents, extents[1:], strict=False))


def test_rows_that_belong_together_stand_on_one_page():
    rows = [("unit", "P"), *((name, "1") for number in range(40) for name in (f"unit {number}", "   nose", "   mouth"))]
    figures = table_pages("Title", {}, [], [rows])
    pages = [[text.get_text() for text in figure.texts][1::2] for figure in figures]  # behind the title, names alone
    assert len(pages) == 4 and all(page[0] == "unit" and page[1].startswith("unit ") for page in pages)
    assert [name for page in pages for name in page[1:]] == [name for name, _ in rows[1:]]
    assert len(table_pages("Title", {}, [], [[("unit", "P"), *[("  one", "1")] * 90]])) == 3  # one that no page holds


def test_a_report_has_one_format_and_carries_its_fonts(tmp_path):
    figure = plots.stacked_probabilities("鼻 and nose", ["a", "b"], np.full((9, 2), 0.5), ["a", "b"], 0.55)
    plots.write_pdf(tmp_path / "a.pdf", "Title", {"network": "n"}, [], [[("a", "b"), ("1", "2")]], [figure])
    content = (tmp_path / "a.pdf").read_bytes()
    assert set(re.findall(rb"/MediaBox \[([^]]*)\]", content)) == {b" 0 0 841.68 595.44 "}
    assert b"/Type3" not in content.replace(b" ", b"") and b"/FontFile2" in content


@pytest.mark.usefixtures("no_pdfs")
def test_images_left_out_do_not_count(small_dictionary, run_main, run, tmp_path):
    (small_dictionary / "Attributes/000001/original.png").write_bytes(b"broken")
    run_main(TASK="onet", SKIP_BAD_IMAGES=True)
    run(cluster_top, TASKS="onet", SCORE_THRESHOLD=0.005, SKIP_BAD_IMAGES=True)
    content = pickle.loads((tmp_path / "result" / "onet_layer3_unit_concept_probs.pkl").read_bytes())
    values = [value for of_unit in content.values() for value in of_unit.values()]
    assert np.isfinite(values).all()
    assert values


def test_the_same_subgroup_has_the_same_colour_whatever_stands_beside_it():
    assert colours(["male", "female", "unbiased"])["female"] == colours(["male", "female"])["female"]
    assert len(set(colours(list("abcdefgh")).values())) == 8
