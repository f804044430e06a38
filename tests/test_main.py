"""main.py from end to end: planted truth, what is reused or made anew, and errors as their reader gets them."""

import csv
import json
import logging
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from facenet_pytorch.models.mtcnn import ONet

from dictionary.check import find_problems
from dictionary.dictionary import open_dictionary
from dictionary.faces import KNOWN_FACES, Face, find_faces
from dictionary.file_memory import memory_path
from dictionary.images import load_rgb, read_mask
from dictionary.views import resize_image
from feature_operation import FeatureOperator
from loader.models import load_model
from loader.recorder import ActivationRecorder
from method.findings import Findings
from method.tally import Tally
from store.about import about_network
from store.arrays import load_as
from store.feature_file import FeatureMaps, MapsSlice
from store.layer import LayerStore, locked
from store.maps import MemoryMaps, open_maps
from store.stages import MAPS, MAPS_SIZE
from tests import plain_reference
from tests.conftest import LITTLE_WORDS, DictionaryMaker, made_up_dictionary
from tests.test_tally import tallied
from util.errors import DissectionError
from util.files import digest

ROOT = Path(__file__).resolve().parents[1]

# ------------------------------------------------------------------------------------------------------ planted truth

PLANTED = """
import torch
from loader.models import ModelSpec

def build():
    # Unit 0 sees red, unit 1 green, unit 2 blue, unit 3 nothing; strided, so that the maps are half as large.
    convolution = torch.nn.Conv2d(3, 4, 2, stride=2, bias=False)
    convolution.weight.data.zero_()
    for channel in range(3):
        convolution.weight.data[channel, channel] = 0.25
    return torch.nn.Sequential(convolution, torch.nn.ReLU(inplace=True))

MODEL = ModelSpec(network="planted colours", build=build, layers={"colour": "0"}, side_px=32,
                  pretrained=lambda: build().state_dict())
"""


@pytest.fixture
def planted(tmp_path):
    """Four black pictures of 32x32 px with a red, a green and a blue square, and masks placed to overlap them."""
    (tmp_path / "model_loader_planted.py").write_text(PLANTED)
    maker = DictionaryMaker(tmp_path / "dictionary")
    for number in range(4):
        image = np.zeros((32, 32, 3), np.uint8)
        image[4:12, 4:12, 0] = 255
        image[4:12, 20:28, 1] = 255
        image[20:28, 8:16, 2] = 255
        masks = {name: np.zeros((32, 32), bool) for name in ("left_eye", "right_eye", "mouth")}
        masks["left_eye"][4:12, 4:12] = True  # the red square exactly: IoU 64 / 64
        masks["right_eye"][4:12, 20:24] = True  # half of the green square: IoU 32 / 64
        masks["mouth"][24:32, 8:16] = True  # as large as the blue square, half beside it: IoU 32 / 96
        if number == 3:  # in one picture of four there is no mouth mask, and only three pictures count for it
            del masks["mouth"]
        maker.add(image, masks, "Parts.csv")
    model = load_model("planted", ["colour"], loader_folder=tmp_path)
    dictionary = open_dictionary(maker.write(), memory_folder=tmp_path, workers=0)
    return FeatureOperator(model, dictionary, grid=(32, 32), batch_size=3, workers=2)


def extracted(operator, folder):
    """The memory map of the planted layer."""
    facts = dict.fromkeys(MAPS.inputs) | {"feature_dtype": "float32"}
    stores = {"colour": LayerStore(folder, "planted_colour", facts)}
    maps = MemoryMaps(
        stores, MAPS, MAPS_SIZE, session={}, dtype="float32", batch_size=3, usable=operator.dictionary.usable
    )
    maps.finish(operator.feature_extraction(["colour"], begin=maps.begin))
    return open_maps(stores["colour"], MAPS, MAPS_SIZE, operator.dictionary.usable)


def test_planted_units_come_out_with_their_concept_and_the_iou_worked_out_by_hand(planted, tmp_path):
    # A square of 8x8 px becomes 4x4 of the 16x16 numbers of a map, 1 in 16: with a quantile of 1/10 the threshold is
    # 0. Upsampled to 32x32, the numbers around the square lie a quarter and three quarters of the way to it, so that
    # one more ring of pixels is above 0: 10x10 are active.
    features = extracted(planted, tmp_path / "result")
    thresholds = planted.quantile_threshold(features, 0.1)
    tally = tallied(planted, features, thresholds)
    assert thresholds.tolist() == [0, 0, 0, 0]
    concepts = tally.concepts.tolist()
    assert concepts == ["left_eye", "right_eye", "mouth"]
    assert tally.intersection[0].tolist() == [4 * 64, 0, 0]
    assert tally.union[0, 0] == 4 * 100
    assert tally.intersection[1].tolist() == [0, 4 * 32, 0]
    assert tally.tally[0, 0] == 64 / 100
    assert tally.tally[1, 1] == 32 / 100
    # Blue is active on rows 19..28 and columns 7..16, the mask on rows 24..31: 5 rows of 8 px agree.
    assert tally.intersection[2, 2] == 3 * 5 * 8
    assert tally.tally[2, 2] == 40 / (100 + 64 - 40)
    assert not tally.tally[3].any()
    report = Findings(tally, 0.04)
    assert [report.top_concept(unit) for unit in range(4)] == ["left_eye", "right_eye", "mouth", None]
    assert report.interpretable.tolist() == [True, True, True, False]
    assert (report.detectors, report.unique_detectors) == (3, 3)


def test_the_memory_map_is_what_the_network_gives(planted, tmp_path):
    features = extracted(planted, tmp_path / "result")
    assert features.shape == (4, 4, 16, 16)
    expected = np.zeros((16, 16), np.float32)
    expected[2:6, 2:6] = 1
    assert np.array_equal(features.read(2, 3)[0, 0], expected)
    assert np.array_equal(features.read_map(2, 0), expected)
    raw = np.memmap(features.path, np.float32, "r", shape=features.shape)
    assert np.array_equal(raw[1], features.read(1, 2)[0])


# ------------------------------------------------------------------------------------------------------- the artifacts


def test_everything_named_in_the_method_is_left_and_nothing_else(small_dictionary, run_main, capsys):
    result = run_main(LAYER_NAME="[layer2,layer3]")
    suffixes = (".mmap", "_feature_size.npy", "_quantile.npy", "_tally.npz", "_conv.pdf", "_units.csv", "_iou.csv",
                "_chance.npz", "_presence.csv", "_twins.npz", "_manifest.json", "_settings.json", "_shown.json",
                ".html", "_formulas.npz", "_formulas.csv", "_tally.csv", "_labels.pdf")  # fmt: skip
    expected = {f"onet_{layer}{suffix}" for layer in ("layer2", "layer3") for suffix in suffixes} | {"twins"}
    assert {path.name for path in result.iterdir() if not path.name.startswith(".")} == expected
    size = np.load(result / "onet_layer3_feature_size.npy").tolist()
    assert size == [12, 64, 8, 8]
    assert (result / "onet_layer3.mmap").stat().st_size == 12 * 64 * 8 * 8 * 4
    maps = np.memmap(result / "onet_layer3.mmap", np.float32, "r", shape=tuple(size))
    thresholds = np.load(result / "onet_layer3_quantile.npy")
    assert thresholds.tolist() == [np.quantile(maps[:, unit].astype(np.float64), 1 - 0.005) for unit in range(64)]
    tally = load_as(Tally, result / "onet_layer3_tally.npz")
    assert tally.maps.shape == (64, 6, 20)
    assert tally.concepts.tolist() == ["AU_1", "AU_12", "nose", "left_eye", "mouth", "Smiling"]
    summary = capsys.readouterr().out
    assert "units            64" in summary
    assert "images           12\n" in summary
    assert str(result / "onet_layer3_conv.pdf") in summary
    assert json.loads((result / "onet_layer3_settings.json").read_text())["QUANTILE"] == 0.005


@pytest.mark.usefixtures("no_pdfs")
def test_the_tables_say_what_the_tally_says(small_dictionary, run_main):
    result = run_main(SCORE_THRESHOLD=0.01)
    tally = load_as(Tally, result / "onet_layer3_tally.npz")
    with open(result / "onet_layer3_iou.csv", newline="", encoding="utf-8") as file:
        matrix = list(csv.reader(file))
    assert matrix[0] == ["unit", *tally.concepts]
    assert np.array_equal(np.array([row[1:] for row in matrix[1:]], float), tally.tally)
    with open(result / "onet_layer3_units.csv", newline="", encoding="utf-8") as file:
        units = list(csv.DictReader(file))
    assert [int(row["unit"]) for row in units] == list(range(64))
    for row, of_unit, threshold in zip(units, tally.tally, tally.thresholds, strict=True):
        order = sorted(range(len(of_unit)), key=lambda index: (-of_unit[index], index))[:3]
        touched = [str(tally.concepts[i]) if of_unit[i] else "" for i in order]
        assert [row[f"{place}_concept"] for place in ("top", "second", "third")] == touched
        scores = [float(row[column] or 0) for column in ("iou", "second_iou", "third_iou")]
        assert scores == [of_unit[i] for i in order]
        assert row["interpretable"] == str(int(of_unit[order[0]] > 0.01))
        assert float(row["threshold"]) == threshold
    assert {row["type"] for row in units if row["top_concept"]} <= {"AU", "Parts", "Attr"}
    silent = [row for row in units if not row["top_concept"]]
    assert silent and all((row["type"], row["region"], row["interpretable"]) == ("", "", "0") for row in silent)


def stamps(result):
    left_out = ("", ".json", ".lock")  # folders, and what changes with every run
    return {path.name: path.stat().st_mtime_ns for path in result.iterdir() if path.suffix not in left_out}


def made_anew(before, after):
    return {name.partition("layer3")[2] for name in before if before[name] != after[name]}


REPORTS = {".html", "_conv.pdf", "_units.csv", "_iou.csv", "_tally.csv", "_labels.pdf"}
FROM_CHANCE = {"_chance.npz", "_presence.csv", "_twins.npz", ".html", "_conv.pdf", "_units.csv"}
FORMULAS = {"_formulas.npz", "_formulas.csv"}
FROM_UNION = {"_tally.npz", "_twins.npz", *REPORTS, *FORMULAS}  # the twins' tallies have another union too
FROM_TALLY = {"_tally.npz", *REPORTS, *FROM_CHANCE, *FORMULAS}
FROM_THRESHOLD = {"_quantile.npy", *FROM_TALLY}
ALL = {".mmap", "_feature_size.npy", *FROM_THRESHOLD}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ({}, set()),
        ({"BATCH_SIZE": 5, "TALLY_BATCH_SIZE": 7, "WORKERS": 0}, set()),
        ({"TOPN": 2}, {".html", "_conv.pdf"}),
        ({"SCORE_THRESHOLD": 0.1}, {".html", "_conv.pdf", "_units.csv", "_formulas.csv", "_labels.pdf"}),
        ({"FORMULAS": None}, {".html", "_twins.npz", "_conv.pdf", "_units.csv", *FORMULAS}),
        ({"ALPHA": 0.01}, {"_conv.pdf", "_units.csv", "_presence.csv"}),
        ({"TWINS": 0}, {".html", "_twins.npz", "_conv.pdf", "_units.csv"}),
        ({"PERMUTATIONS": 10}, FROM_CHANCE),
        ({"BOOTSTRAPS": 3}, FROM_CHANCE - {"_twins.npz"}),
        ({"IOU_UNION": "active"}, FROM_UNION),
        ({"SEG_THRESHOLD": 0.2}, FROM_TALLY - {".html"}),
        ({"QUANTILE": 0.02}, FROM_THRESHOLD),
        ({"INPUT_SIZE": 52}, ALL),
        ({"FEATURE_DTYPE": "float16"}, ALL),
    ],
)
@pytest.mark.usefixtures("no_pdfs")
def test_a_change_makes_anew_exactly_what_depends_on_it(small_dictionary, run_main, capsys, words, expected):
    result = run_main()
    before, manifest = stamps(result), (result / "onet_layer3_manifest.json").read_bytes()
    capsys.readouterr()
    after = stamps(run_main(**words))
    assert words or (result / "onet_layer3_manifest.json").read_bytes() == manifest
    assert made_anew(before, after) == expected  # a page stays where the data that it shows come out the same
    assert ("nothing changed" in capsys.readouterr().out) == (expected == set())


@pytest.mark.usefixtures("no_pdfs")
def test_a_changed_mask_or_image_is_noticed(small_dictionary, run_main):
    before = stamps(run_main())
    mask = next(small_dictionary.glob("*/000003/[!o]*.png"))
    content = mask.read_bytes()
    cv2.imwrite(str(mask), 255 - cv2.imread(str(mask), cv2.IMREAD_GRAYSCALE))
    changed = stamps(run_main())
    assert made_anew(before, changed) == FROM_TALLY
    mask.write_bytes(content)
    assert made_anew(changed, stamps(run_main())) == FROM_TALLY
    image = small_dictionary / "Attributes/000000/original.png"
    before = stamps(run_main())
    cv2.imwrite(str(image), cv2.imread(str(image)) + 1)
    assert made_anew(before, stamps(run_main())) == ALL


@pytest.mark.usefixtures("no_pdfs")
def test_other_settings_in_between_and_back_again_give_the_first_results(small_dictionary, run_main):
    result = run_main()
    first = {path.name: path.read_bytes() for path in result.glob("*.npy")}
    tally = load_as(Tally, result / "onet_layer3_tally.npz")
    run_main(INPUT_SIZE=52, QUANTILE=0.1)
    run_main()
    assert {path.name: path.read_bytes() for path in result.glob("*.npy")} == first
    again = load_as(Tally, result / "onet_layer3_tally.npz")
    assert all(np.array_equal(getattr(again, name), getattr(tally, name)) for name in Tally.__dataclass_fields__)


@pytest.mark.parametrize("suffix", sorted(ALL))
def test_a_result_that_was_cut_or_deleted_is_made_again(small_dictionary, run_main, suffix, request):
    if not suffix.endswith(".pdf"):
        request.getfixturevalue("no_pdfs")
    path = run_main() / f"onet_layer3{suffix}"
    content = path.read_bytes()
    path.write_bytes(content[:-3])
    run_main()
    if suffix != "_conv.pdf":  # which has the time in it
        assert path.read_bytes() == content
    path.unlink()
    run_main()
    assert path.stat().st_size == len(content)


@pytest.mark.usefixtures("no_pdfs")
def test_a_damaged_manifest_vouches_for_nothing(small_dictionary, run_main):
    result = run_main()
    before = stamps(result)
    entry = {"made_from": [1], "bytes": 1, "mtime_ns": 1, "digest": ""}
    files = ("{}", "3", '{".mmap": 3}', '{".mmap": {"made_from": 1}}', json.dumps({".mmap": entry}))
    deep = "[" * 200_000
    for content in ("", "{", "[1]", deep, '{".mmap": 3}', *(f'{{"format": 2, "files": {part}}}' for part in files)):
        (result / "onet_layer3_manifest.json").write_text(content)
        after = stamps(run_main())
        assert made_anew(before, after) == ALL, content
        before = after


@pytest.mark.usefixtures("no_pdfs")
def test_results_of_an_older_version_are_recognised_and_made_anew(small_dictionary, run_main, caplog):
    result = run_main()
    before = stamps(result)
    manifest = json.loads((result / "onet_layer3_manifest.json").read_text())
    older = {suffix: {**entry, "sha256": entry.pop("digest")} for suffix, entry in manifest["files"].items()}
    (result / "onet_layer3_manifest.json").write_text(json.dumps(older))
    caplog.set_level(logging.INFO)
    assert made_anew(before, stamps(run_main())) == ALL
    assert caplog.text.count("onet_layer3 was made by another version of the program: all is made anew") == 1


@pytest.mark.usefixtures("no_pdfs")
def test_what_an_interrupted_run_of_other_settings_left_is_cleared_away(small_dictionary, run_main, monkeypatch):
    result = run_main()
    original = MapsSlice.add

    def stopped(self, batch):
        original(self, batch)
        raise KeyboardInterrupt

    monkeypatch.setattr(MapsSlice, "add", stopped)
    with pytest.raises(KeyboardInterrupt):
        run_main(INPUT_SIZE=96, BATCH_SIZE=4)
    monkeypatch.setattr(MapsSlice, "add", original)
    notes = list(result.glob(".onet_layer3.mmap.partial.*.json"))
    assert notes
    for note in notes:
        note.write_text("[" * 200_000)  # damaged since
    run_main()
    assert not list(result.glob(".*partial*"))


@pytest.mark.usefixtures("no_pdfs")
def test_a_copied_map_is_read_once_and_then_known(small_dictionary, run_main, monkeypatch):
    path = run_main() / "onet_layer3.mmap"
    path.touch()
    run_main()
    read = []
    monkeypatch.setattr("store.layer.digest", lambda what: read.append(what) or digest(what))
    run_main()
    assert path not in read


@pytest.mark.usefixtures("no_pdfs")
def test_a_map_edited_in_place_is_made_again(small_dictionary, run_main):
    path = run_main() / "onet_layer3.mmap"
    content = path.read_bytes()
    path.write_bytes(content[:100] + b"12345678" + content[108:])
    run_main()
    assert path.read_bytes() == content


@pytest.mark.usefixtures("no_pdfs")
def test_a_copied_result_is_recognised_by_its_content(small_dictionary, run_main, tmp_path):
    before = run_main()
    shutil.copytree(before, tmp_path / "copy", copy_function=shutil.copyfile)
    stood = stamps(tmp_path / "copy")
    run_main(OUTPUT_FOLDER=tmp_path / "copy")
    assert stamps(tmp_path / "copy") == stood


@pytest.mark.usefixtures("no_pdfs")
def test_thresholds_belong_to_the_very_map_that_lies_there(small_dictionary, run_main):
    result = run_main(CLEAN=True, BATCH_SIZE=1)
    run_main(CLEAN=False, BATCH_SIZE=7)  # rounds otherwise than one by one, in the last bits
    maps = np.memmap(result / "onet_layer3.mmap", np.float32, "r", shape=(12, 64, 8, 8))
    expected = [np.quantile(maps[:, unit].astype(np.float64), 1 - 0.005) for unit in range(64)]
    assert np.load(result / "onet_layer3_quantile.npy").tolist() == expected


@pytest.mark.usefixtures("no_pdfs")
def test_layers_dissected_together_or_alone_give_the_same(small_dictionary, run_main, tmp_path):
    together = run_main(LAYER_NAME="[layer1,layer3]")
    alone = tmp_path / "alone"
    run_main(OUTPUT_FOLDER=alone)
    for suffix in (".mmap", "_quantile.npy"):
        assert (together / f"onet_layer3{suffix}").read_bytes() == (alone / f"onet_layer3{suffix}").read_bytes()


@pytest.mark.usefixtures("no_pdfs")
def test_the_untrained_twin_stands_beside_the_trained_network(small_dictionary, run_main):
    trained = stamps(run_main())
    del trained["onet_layer3.html"]  # which leads to the twin's page now
    result = run_main(WEIGHTS="random", SEED=3)
    assert stamps(result).items() >= trained.items()
    twin = (result / "onet_random_layer3.mmap").read_bytes()
    run_main(WEIGHTS="random", SEED=4)
    assert (result / "onet_random_layer3.mmap").read_bytes() != twin
    run_main(WEIGHTS="random", SEED=3)
    assert (result / "onet_random_layer3.mmap").read_bytes() == twin


@pytest.mark.usefixtures("no_pdfs")
def test_clean_deletes_the_memory_map_and_later_runs_need_none(small_dictionary, run_main):
    result = run_main(CLEAN=True)
    assert not (result / "onet_layer3.mmap").exists()
    before = stamps(result)
    assert stamps(run_main(CLEAN=True)) == before
    run_main()
    assert (result / "onet_layer3.mmap").exists()
    run_main(CLEAN=True)
    assert not (result / "onet_layer3.mmap").exists()


@pytest.mark.usefixtures("no_pdfs")
def test_a_test_run_takes_the_first_images_and_leaves_the_results_alone(small_dictionary, run_main, tmp_path):
    before = stamps(run_main())
    run_main(TEST_MODE=True, TEST_IMAGES=5)
    assert stamps(tmp_path / "result") == before
    assert np.load(tmp_path / "result_test" / "onet_layer3_feature_size.npy")[0] == 5


@pytest.mark.usefixtures("no_pdfs")
def test_half_precision_halves_the_map(small_dictionary, run_main):
    result = run_main(FEATURE_DTYPE="float16")
    assert (result / "onet_layer3.mmap").stat().st_size == 12 * 64 * 8 * 8 * 2


def test_a_second_run_at_the_same_time_is_refused(small_dictionary, run_main, tmp_path):
    with locked([LayerStore(tmp_path / "result", "onet_layer3")]):
        with pytest.raises(DissectionError, match=r"another run is working on .*onet_layer3"):
            run_main()
        run_main(LAYER_NAME="layer2")


# ---------------------------------------------------------------------------------------------------------- bad images


def test_bad_images_are_left_out_listed_and_counted(small_dictionary, run_main, capsys, caplog):
    (small_dictionary / "Attributes/000001/original.png").write_bytes(b"broken")
    next(small_dictionary.glob("Parts/000009/[!o]*.png")).unlink()
    with pytest.raises(DissectionError, match=r"2 of the 12 rows"):
        run_main()
    with caplog.at_level(logging.INFO):
        result = run_main(SKIP_BAD_IMAGES=True)
    assert "images           10, 2 left out as bad" in capsys.readouterr().out
    assert "left out: Attributes.csv line 3: Attributes/000001/original.png is not a readable image" in caplog.text
    assert "left out: Parts.csv line 3: Parts/000009/" in caplog.text
    size = tuple(np.load(result / "onet_layer3_feature_size.npy"))
    maps = np.memmap(result / "onet_layer3.mmap", np.float32, "r", shape=size)
    missing = np.isnan(maps).all(axis=(1, 2, 3))
    assert np.nonzero(missing)[0].tolist() == [1, 9]
    assert not np.isnan(maps[~missing]).any()
    expected = [np.quantile(maps[~missing, unit].astype(np.float64), 1 - 0.005) for unit in range(64)]
    assert np.load(result / "onet_layer3_quantile.npy").tolist() == expected
    assert not np.isin(load_as(Tally, result / "onet_layer3_tally.npz").maps, [1, 9]).any()


@pytest.mark.usefixtures("no_pdfs")
def test_a_whole_batch_of_bad_images(small_dictionary, run_main):
    for number in range(4, 8):
        (small_dictionary / f"Action_Units/{number:06d}/original.png").unlink()
    result = run_main(SKIP_BAD_IMAGES=True, BATCH_SIZE=2, TALLY_BATCH_SIZE=2)
    assert not np.isnan(np.load(result / "onet_layer3_quantile.npy")).any()


def test_images_without_a_face_are_named_when_the_task_crops(small_dictionary, run_main):
    with pytest.raises(DissectionError) as caught:
        run_main(CROP=True)
    assert "12 of the 12 rows" in str(caught.value)
    assert "no face was found in Attributes/000000/original.png, and this task crops faces" in str(caught.value)


# -------------------------------------------------------------------------------------------------- models and devices


def message_of(run_main, **words):
    with pytest.raises(DissectionError) as caught:
        run_main(**words)
    return str(caught.value)


def test_tasks_and_layers_that_do_not_exist(small_dictionary, run_main):
    assert "unknown task 'agee': did you mean age" in message_of(run_main, TASK="agee")
    assert "has no layer 'layer9'" in message_of(run_main, LAYER_NAME="layer9")
    assert "layer3 is named more than once" in message_of(run_main, LAYER_NAME="[layer3,layer3]")


def test_a_layer_without_maps(small_dictionary, run_main, tmp_path):
    from torchvision.models import resnet18

    torch.save(resnet18(num_classes=2).state_dict(), tmp_path / "two.pth")
    words = {"TASK": "torchvision", "ARCHITECTURE": "resnet18", "NUM_CLASSES": 2, "WEIGHTS": tmp_path / "two.pth"}
    message = message_of(run_main, **words, LAYER_NAME="fc")
    assert "layer 'fc' (fc) gives a tensor of shape (1, 2), not activation maps" in message
    assert not list((tmp_path / "result").glob("*.mmap*"))
    result = run_main(**words, LAYER_NAME="layer2")
    assert (result / "torchvision_layer2_tally.npz").exists()
    before = stamps(result)
    assert stamps(run_main(**words, LAYER_NAME="layer2")) == before


def test_the_report_says_the_network_and_is_made_anew_when_what_it_says_changes(
    small_dictionary, run_main, tmp_path, capsys
):
    from torchvision.models import resnet18

    for name in ("two", "same"):
        torch.manual_seed(0)
        torch.save(resnet18(num_classes=2).state_dict(), tmp_path / f"{name}.pth")
    words = {"TASK": "torchvision", "ARCHITECTURE": "resnet18", "NUM_CLASSES": 2, "LAYER_NAME": "layer1"}
    before = stamps(run_main(**words, WEIGHTS=tmp_path / "two.pth"))
    said = capsys.readouterr().out
    assert "network          torchvision network (torchvision, architecture resnet18, num_classes 2)" in said
    after = stamps(run_main(**words, WEIGHTS=tmp_path / "same.pth"))
    assert {name for name in before if before[name] != after[name]} == {
        "torchvision_layer1_conv.pdf", "torchvision_layer1.html",
    }  # fmt: skip
    assert f"{tmp_path / 'same.pth'}" in capsys.readouterr().out


def test_normalisations_are_told_apart_in_words(tmp_path):
    path = tmp_path / "model_loader_planted.py"
    path.write_text(PLANTED)
    model = load_model("planted", ["colour"], loader_folder=tmp_path)

    def told(**stated):
        own = replace(model, spec=replace(model.spec, **stated))
        return about_network(own, None, 0, "")["input"].partition("rgb, ")[2]

    assert told() == "x of x in 0..1"
    assert told(mean=0.5, std=(0.2, 0.2, 0.2)) == "(x - [0.5]) / [0.2] of x in 0..1"
    assert told(mean=(0.5, 0.4, 0.5)) == "(x - [0.5 0.4 0.5]) / [1] of x in 0..1"
    assert told(mean=(0.5, 0.4, 0.4)) == "(x - [0.5 0.4 0.4]) / [1] of x in 0..1"
    assert told(std=1.00001) == "(x - [0]) / [1] of x in 0..1"


def test_checkpoints_that_are_missing_or_foreign(small_dictionary, run_main, tmp_path):
    assert "needs" in message_of(run_main, TASK="smile")
    assert "smile_nonsmile_0.912.pth" in message_of(run_main, TASK="smile")
    torch.save({"weight": torch.zeros(3)}, tmp_path / "foreign.pth")
    assert "does not fit O-Net" in message_of(run_main, WEIGHTS=tmp_path / "foreign.pth")


def test_no_cuda_where_it_was_demanded(small_dictionary, run_main):
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    assert "set DEVICE='auto' or 'cpu'" in message_of(run_main, DEVICE="cuda")


@pytest.mark.parametrize(("value", "word"), [(float("nan"), "NaN or infinite"), (float("inf"), "NaN or infinite")])
def test_activations_that_are_no_numbers_are_traced_to_image_and_unit(
    small_dictionary, run_main, tmp_path, monkeypatch, value, word
):
    from loader import recorder

    original = recorder.ActivationRecorder.run
    calls = []

    def poisoned(self, images):
        maps = original(self, images)
        calls.append(len(images))
        if calls.count(4) == 2:  # the second batch of the dictionary
            maps["layer3"][1, 7, 2, 2] = value
        return maps

    monkeypatch.setattr(recorder.ActivationRecorder, "run", poisoned)
    message = message_of(run_main, BATCH_SIZE=4)
    assert message.startswith("unit 7 of layer3 on image 5 (")
    assert "Action_Units/000005/original.png" in message
    assert word in message
    assert not (tmp_path / "result" / "onet_layer3.mmap").exists()


@pytest.mark.usefixtures("no_pdfs")
def test_what_half_precision_cannot_hold_is_said(small_dictionary, run_main, tmp_path):
    network = ONet()
    state = {
        name: tensor * 1e5 if name.startswith("conv3") else tensor for name, tensor in network.state_dict().items()
    }
    torch.save(state, tmp_path / "loud.pth")
    message = message_of(run_main, WEIGHTS=tmp_path / "loud.pth", FEATURE_DTYPE="float16")
    assert "beyond float16: set FEATURE_DTYPE='float32'" in message
    run_main(WEIGHTS=tmp_path / "loud.pth")


# ------------------------------------------------------------------------------------------------------- disk and exit


def test_a_disk_too_small_for_the_map_is_noticed_before_the_work(small_dictionary, run_main, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1_000_000))
    message = message_of(run_main, INPUT_SIZE=96, LAYER_NAME="[layer1,layer3]")
    assert "the memory map of onet_layer1 and onet_layer3 needs 15 MB more and" in message
    assert "has 1 MB free" in message
    assert "FEATURE_DTYPE='float16'" in message


def test_a_disk_that_fills_up_keeps_what_is_finished(small_dictionary, run_main, tmp_path, monkeypatch):
    original = np.savez

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    message = message_of(run_main)
    assert "onet_layer3_tally.npz: the disk is full; free some space" in message
    assert not list((tmp_path / "result").glob("*.partial"))
    monkeypatch.setattr(np, "savez", original)
    before = stamps(tmp_path / "result")
    assert made_anew(before, stamps(run_main())) == set()


def test_a_folder_that_cannot_be_written(small_dictionary, run_main, tmp_path):
    (tmp_path / "file").write_text("in the way")
    assert "cannot write" in message_of(run_main, OUTPUT_FOLDER=tmp_path / "file" / "result")
    assert "cannot write" in message_of(
        run_main, CACHE_FOLDER=tmp_path / "file" / "cache", OUTPUT_FOLDER=tmp_path / "b"
    )


def command(*words):
    return subprocess.run([sys.executable, "main.py", *words], cwd=ROOT, capture_output=True, text=True, check=False)


def test_an_error_is_one_message_and_exit_code_2(tmp_path):
    ended = command(f"DICTIONARY={tmp_path / 'nowhere'}", f"OUTPUT_FOLDER={tmp_path / 'result'}")
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1].startswith("error: no Face Dictionary at ")
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "result").exists()


def test_no_bars_where_there_is_no_terminal(tmp_path):
    made_up_dictionary(tmp_path / "dictionary")
    ended = command(
        f"DICTIONARY={tmp_path / 'dictionary'}", f"OUTPUT_FOLDER={tmp_path / 'result'}", "INPUT_SIZE=48",
        f"CACHE_FOLDER={tmp_path / 'cache'}", "TASK=pnet", *LITTLE_WORDS,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert "it/s" not in ended.stderr
    assert "|" not in ended.stderr
    assert "pnet_layer3" in ended.stdout


# -------------------------------------------------------------------------------------------------------- face cropping


class OneFace:
    """Stands in for MTCNN: finds a face at a fixed place, none in pictures that are dark at the top left."""

    calls = 0

    def __init__(self, **_):
        pass

    def detect(self, photograph, landmarks):
        assert landmarks
        OneFace.calls += 1
        assert min(photograph.shape[:2]) >= 20  # MTCNN fails on less
        if photograph[0, 0].max() < 20:
            return None, [None], None
        points = [[8.0, 16.0], [20.0, 14.0], [15.0, 22.0], [10.0, 30.0], [19.0, 29.0]]
        return np.array([[-3.2, 6.7, 30.9, 80.0]]), np.array([0.99]), np.array([points])


ITS_FACE = ((-3.2, 6.7, 30.9, 80.0), ((8.0, 16.0), (20.0, 14.0), (15.0, 22.0), (10.0, 30.0), (19.0, 29.0)))


def test_boxes_are_found_once_kept_and_used_for_image_mask_and_report(tmp_path, monkeypatch):
    monkeypatch.setattr("facenet_pytorch.MTCNN", OneFace)
    OneFace.calls = 0
    maker = DictionaryMaker(tmp_path / "dictionary")
    for level in (200, 210, 0):
        image, mask = np.full((40, 50, 3), level, np.uint8), np.zeros((40, 50), bool)
        mask[10:20, 10:30] = True
        maker.add(image, {"nose": mask})
    dictionary = open_dictionary(maker.write(), memory_folder=tmp_path, workers=0)
    faces = faces_of(dictionary, tmp_path / "cache")
    assert faces == [Face(*ITS_FACE, (50, 40)), Face(*ITS_FACE, (50, 40)), None]
    assert faces_of(dictionary, tmp_path / "cache") == faces
    assert OneFace.calls == 3


@pytest.mark.usefixtures("no_pdfs")
def test_a_cropped_task_sees_the_face_alone(tmp_path, monkeypatch, run_main):
    monkeypatch.setattr("facenet_pytorch.MTCNN", OneFace)
    made_up_dictionary(tmp_path / "dictionary", images=6)
    result = run_main(CROP=True, SKIP_BAD_IMAGES=True)
    manifest = json.loads((result / "onet_layer3_manifest.json").read_text())
    assert manifest["files"][".mmap"]["made_from"]["crop"]["kind"] == "box"
    size = np.load(result / "onet_layer3_feature_size.npy")
    model = load_model("onet", ["layer3"])
    dictionary = open_dictionary(tmp_path / "dictionary", memory_folder=tmp_path, workers=0)
    maps = FeatureMaps(result / "onet_layer3.mmap", size, "float32", np.ones(6, bool))
    masks = []
    for row in dictionary.rows:
        image = load_rgb(dictionary.image_path(row))
        box = slice(6, None), slice(0, 30)  # the face, as far as the photograph goes
        seen = model.preprocess(resize_image(image[box], (48, 48))[None])
        with ActivationRecorder(model.module, model.layers) as recorder:
            expected = recorder.run(seen)["layer3"][0].numpy()
        assert np.allclose(maps.read(row.index, row.index + 1)[0], expected, atol=1e-4)
        masks.append({name: read_mask(dictionary.root / row.masks[name])[box] for name in row.masks})
    plain = plain_reference.dissect(maps.read(0, 6)[:, :3], masks, list(dictionary.names), 0.005, (48, 48))
    tally = load_as(Tally, result / "onet_layer3_tally.npz")
    for name in ("intersection", "union", "union_active"):
        assert np.array_equal(getattr(tally, name)[:3], plain[name])


def test_an_image_too_small_for_a_face_has_none(tmp_path, monkeypatch):
    monkeypatch.setattr("facenet_pytorch.MTCNN", OneFace)
    maker = DictionaryMaker(tmp_path / "dictionary")
    for size in ((10, 10), (1, 300), (40, 50)):
        maker.add(np.full((*size, 3), 200, np.uint8), {"nose": np.ones(size, bool)})
    dictionary = open_dictionary(maker.write(), memory_folder=tmp_path, workers=0)
    assert faces_of(dictionary, tmp_path / "cache") == [None, None, Face(*ITS_FACE, (50, 40))]


SOUND = "[[0, 0, 9, 9], [[1, 1], [7, 1], [4, 4], [2, 7], [6, 7]], [50, 40]]"
POINTS = "[[1, 1], [7, 1], [4, 4], [2, 7], [6, 7]]"
DAMAGED = [
    "[]", '"abcd"', "3", "[1, 2, 3]", SOUND.replace("9, 9]", "0, 0]"), SOUND.replace("9, 9]", "NaN, 9]"),
    SOUND.replace(", [6, 7]", ""), SOUND.replace("[6, 7]", "[6]"), SOUND.replace("[50, 40]", "[50]"),
    SOUND.replace("[6, 7]", "[6, Infinity]"), SOUND.replace(POINTS, "[[1, 1], [1, 1], [1, 1], [1, 1], [1, 1]]"),
    SOUND.replace("[6, 7]", f"[6, 1{'0' * 400}]"), SOUND.replace("[50, 40]", "[Infinity, 40]"), "[" * 200_000,
    SOUND.replace("[50, 40]", f"[1{'0' * 400}, 40]"), SOUND.replace("9, 9]", "9, 91]"),
    SOUND.replace(POINTS, "[[300, 300], [2100, 300], [1200, 1200], [600, 2100], [1800, 2100]]"),
    # Upside down and mirrored.
    SOUND.replace(POINTS, "[[19.7, 24.5], [30.3, 24.5], [25, 19.8], [20.3, 15.6], [29.7, 15.6]]"),
]  # fmt: skip


@pytest.fixture
def photograph(tmp_path, monkeypatch):
    """A dictionary of one photograph, in which MTCNN's stand-in finds ITS_FACE; the digest of its content."""
    monkeypatch.setattr("facenet_pytorch.MTCNN", OneFace)
    OneFace.calls = 0
    maker = DictionaryMaker(tmp_path / "dictionary")
    maker.add(np.full((40, 50, 3), 200, np.uint8), {"nose": np.ones((40, 50), bool)})
    dictionary = open_dictionary(maker.write(), memory_folder=tmp_path, workers=0)
    dictionary.digest = dictionary.digest_of(dictionary.rows[0])
    return dictionary


def faces_of(dictionary, folder):
    rows = dictionary.rows
    return list(find_faces(dictionary.root, len(rows), rows.image, dictionary.digests.image, folder, "cpu", workers=2))


def as_memory(dictionary, face, version=2):
    return f'{{"version": {version}, "facts": {{"{dictionary.digest}": {face}}}}}'


@pytest.mark.parametrize("face", DAMAGED)
def test_damaged_faces_of_a_dictionary_are_refused(photograph, tmp_path, face):
    (photograph.root / KNOWN_FACES).write_text(as_memory(photograph, face))
    with pytest.raises(DissectionError, match=r"faces.json cannot be used .*: mend it or delete it, then the"):
        faces_of(photograph, tmp_path / "cache")
    assert OneFace.calls == 0
    told = [str(problem) for problem in find_problems(photograph.root, workers=1)[0]]
    assert any(text.startswith("faces.json: ") for text in told)


def test_faces_of_a_dictionary_stay_there_and_those_of_another_version_are_refused(photograph, tmp_path):
    known = photograph.root / KNOWN_FACES
    known.write_text(as_memory(photograph, SOUND))
    assert faces_of(photograph, tmp_path / "cache")[0].box == (0, 0, 9, 9)
    known.unlink()  # of which nothing is left
    assert faces_of(photograph, tmp_path / "cache") == [Face(*ITS_FACE, (50, 40))]
    known.write_text(as_memory(photograph, SOUND, version=1))
    with pytest.raises(DissectionError, match="it is of version 1, and this program reads 2"):
        faces_of(photograph, tmp_path / "cache")
    known.write_text(as_memory(photograph, SOUND))
    assert faces_of(photograph, tmp_path / "cache")[0].box == (0, 0, 9, 9)
    elsewhere = shutil.copytree(photograph.root, tmp_path / "other" / photograph.root.name)
    names = {memory_path(root, tmp_path, "faces") for root in (photograph.root, elsewhere)}
    assert len(names) == 2


@pytest.mark.parametrize("crop", ["box", "dlib 0.2"])
def test_a_face_of_a_photograph_of_another_size_is_one_error(photograph, run_main, crop):
    wrong = SOUND.replace("[50, 40]", "[500, 400]").replace("9, 9]", "490, 390]")
    (photograph.root / KNOWN_FACES).write_text(as_memory(photograph, wrong))
    with pytest.raises(DissectionError, match=r"original.png is 50 x 40 px, but its face was found in .* 500 x 400 px"):
        run_main(CROP=crop)


@pytest.mark.usefixtures("no_pdfs")
def test_a_run_that_ends_before_it_clears_a_twins_maps_away_leaves_them_to_the_next(
    small_dictionary, run_main, tmp_path, monkeypatch
):
    twin = tmp_path / "result" / "twins" / "onet_random0_layer3.mmap"

    def ended(store, suffix):
        raise KeyboardInterrupt

    with monkeypatch.context() as killed:
        killed.setattr(LayerStore, "remove", ended)
        with pytest.raises(KeyboardInterrupt):
            run_main()
    assert twin.exists()
    run_main()
    assert not twin.exists()
