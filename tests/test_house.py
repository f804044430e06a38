"""The house: which room may import which, and what a new statistic, report, format or layout touches."""

import ast
import csv
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

import cluster_top
import main
from dictionary import dictionary as dictionary_room
from dictionary.concepts import Concept
from dictionary.rows import Format, Problem, Row, Rows
from loader.layout import Layout, find_layout
from loader.recorder import ActivationRecorder
from method.tally import Tally
from rendering.concepts import ALWAYS, DRAWN
from rendering.render import HEAD_LAYERS
from report.dissection import REPORTS
from report.tables import write_csv
from store import dissection
from store.arrays import load_arrays, load_as
from store.layer import Stage
from store.stages import MAPS, STATISTICS, THRESHOLDS
from tests.test_analyses import run  # noqa: F401 - a fixture
from util.errors import DissectionError

ROOT = Path(__file__).resolve().parents[1]

# From the top floor down; a room may import what lies below it, and itself.
FLOORS = (
    ("main", "nl_bias", "cluster_top", "predict", "ablation"),
    ("experiments",), ("report",), ("feature_operation",), ("store",), ("method",),
    ("dictionary",), ("rendering",), ("loader",), ("util",),
)  # fmt: skip
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
SCRIPTS = FLOORS[0]
STUDIES = Path("experiments/words.py")  # reads the settings for all of them


def source_files():
    """{path: room} of the program's files, those of tests and benchmarks left out."""
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "*.py"], cwd=ROOT, text=True,
                            capture_output=True, check=True).stdout.split()  # fmt: skip
    paths = [Path(name) for name in listed if (ROOT / name).exists()]
    return {path: path.parts[0].removesuffix(".py") for path in paths if path.parts[0] not in ("tests", "benchmarks")}


def imported(path):
    """The first names of all modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield node.module.partition(".")[0]


def arrows():
    """(file, room, imported room) of every import of one room by another."""
    for path, room in source_files().items():
        for other in imported(path):
            if other in {*FLOOR_OF, "settings", "tests", "benchmarks"} and other != room:
                yield path, room, other


def test_imports_point_down():
    assert len(source_files()) > 60
    for path, room, other in arrows():
        if other == "settings":
            assert room in SCRIPTS or path == STUDIES, f"{path} imports settings: only the scripts may"
        else:
            assert other in FLOOR_OF, f"{path} imports {other}"
            assert FLOOR_OF[room] < FLOOR_OF[other], f"{path} imports {other}, which lies above it"


def test_every_file_has_a_room_and_data_folders_hold_no_code():
    for path, room in source_files().items():
        assert room in FLOOR_OF or path == Path("settings.py"), f"{path} lies in no room"
    assert not list((ROOT / "visual_dictionary").glob("*.py"))


def test_mathematics_knows_no_files_and_reports_no_networks():
    for path, room in source_files().items():
        found = set(imported(path))
        if room == "method":
            assert not found & {"os", "pathlib", "json", "csv", "tempfile", "dictionary", "loader", "torch"}, path
        if room == "report":
            assert not found & {"loader", "torch"}, path


def test_the_reports_and_the_hierarchy_start_without_torch():
    modules = "cluster_top, report.dissection, report.hierarchy, report.bias"
    program = f"import sys, {modules}; print(sorted(sys.modules.keys() & set(('torch', 'torchvision'))))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.stdout == "[]\n", done.stderr


# ----------------------------------------------------------------------------------------------- a concept of one's own


def images_with(maker, concept, count=8):
    """Images with a nose, a mouth and a mask of one's own where a bright square is."""
    random = np.random.default_rng(3)
    for number in range(count):
        image = cv2.resize(random.integers(0, 120, (6, 5, 3), np.uint8), (60, 60))
        masks = {name: np.zeros((60, 60), bool) for name in ("nose", "mouth", concept)}
        masks["nose"][20:30, 25:35], masks["mouth"][40:50, 20:40] = True, True
        top = 5 + number
        masks[concept][top : top + 12, 40:54] = True
        image[masks[concept]] = 255
        maker.add(image, masks)
    return maker.write()


def units_of(result):
    with open(result / "onet_layer3_units.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.usefixtures("no_pdfs")
def test_a_concept_of_ones_own_needs_no_code(dictionary_maker, run_main, run, tmp_path, caplog):  # noqa: F811
    caplog.set_level("INFO")
    root = images_with(dictionary_maker, "Freckles")
    result = run_main(SCORE_THRESHOLD=0.01)
    freckled = [row for row in units_of(result) if row["top_concept"] == "Freckles"]
    assert freckled and {(row["type"], row["region"]) for row in freckled} == {("Other", "Unlocalizable")}
    assert "note: concepts.csv: new concept 'Freckles' on 8 images: it lies in no region" in caplog.text
    (root / "concepts.csv").write_text("concept,type,region\nFreckles,Attr,Cheek_Region\n")
    caplog.clear()
    run_main(SCORE_THRESHOLD=0.01)
    assert "new concept" not in caplog.text
    again = [row for row in units_of(result) if row["top_concept"] == "Freckles"]
    assert [row["unit"] for row in again] == [row["unit"] for row in freckled]
    assert {(row["type"], row["region"]) for row in again} == {("Attr", "Cheek_Region")}
    tally = load_as(Tally, result / "onet_layer3_tally.npz")
    assert tally.concepts.tolist() == ["nose", "mouth", "Freckles"]
    run(cluster_top, TASKS="onet", SCORE_THRESHOLD=0.01)
    text = (result / "onet_layer3_unit_concept_probs.txt").read_text()
    assert "Concept : Freckles" in text and "Cluster : Cheek_Region" in text
    lines = (result / "onet_layer3_detected_concepts.csv").read_text().splitlines()
    assert lines[-1].startswith("Freckles,Attr,Cheek_Region,")


@pytest.mark.usefixtures("no_pdfs")
def test_a_misspelt_concept_is_no_new_one(dictionary_maker, run_main):
    root = images_with(dictionary_maker, "Wearing_Lipstik")
    with pytest.raises(DissectionError, match="unknown concept 'Wearing_Lipstik', did you mean Wearing_Lipstick?"):
        run_main()
    (root / "concepts.csv").write_text("concept,type,region\nWearing_Lipstik,Attr,\n")
    run_main()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("concept,region\nFreckles,Cheek_Region\n", "the first line must be 'concept,type,region'"),
        ("concept,type,region\nFreckles,Attr\n", "row 2 must have concept and type and region, found 'Freckles,Attr'"),
        ("concept,type,region\nnose,Parts,\n", "nose is listed already"),
        ("concept,type,region\na/b,Parts,\n", "'a/b' cannot be the name of a mask's file"),
    ],
)
def test_a_table_of_concepts_that_is_none(dictionary_maker, run_main, content, message):
    root = images_with(dictionary_maker, "Freckles")
    (root / "concepts.csv").write_text(content)
    with pytest.raises(DissectionError, match=message):
        run_main()


def test_every_drawn_concept_is_drawn_by_something_and_labelled_by_nothing_else():
    from dictionary.render import RULES
    from rendering.anatomy import PULLS

    assert {concept.name for concept in RULES} == {*DRAWN, *ALWAYS}
    for name, drawn in DRAWN.items():
        assert name in PULLS or drawn.layer is not None, f"nothing draws {name}"
        assert drawn.layer is None or drawn.layer in HEAD_LAYERS, f"the layer of {name} is never painted"


# ---------------------------------------------------------------------------- a statistic, a report, a format, a layout


class Silence:
    """A statistic of one file: on how many images each unit is silent."""

    def __init__(self, thresholds, *_):
        self.thresholds, self.silent = thresholds, np.zeros(len(thresholds), int)

    def measure(self, maps, images, masks):
        return (maps.max(axis=(2, 3)) <= self.thresholds).sum(axis=0)

    def add(self, measured):
        self.silent = self.silent + measured

    def merge(self, ranks):
        (self.silent,) = ranks.summed(self.silent)

    def result(self):
        return self


def test_a_statistic_is_one_row_and_retallies_nothing(small_dictionary, run_main, monkeypatch):
    result = run_main()
    before = {path.name: path.stat().st_mtime_ns for path in result.iterdir()}
    row = Stage("_silence.npz", "silence", (MAPS.suffix, THRESHOLDS.suffix), make=Silence)
    for room in (main, dissection):
        monkeypatch.setattr(room, "STATISTICS", (*STATISTICS, row))
    run_main()
    silence = load_arrays(result / "onet_layer3_silence.npz")
    maps = np.memmap(result / "onet_layer3.mmap", np.float32, "r", shape=(12, 64, 8, 8))
    assert silence["silent"].tolist() == (maps.max(axis=(2, 3)) <= silence["thresholds"]).sum(axis=0).tolist()
    kept = [".mmap", "_feature_size.npy", "_quantile.npy", "_tally.npz", "_conv.pdf", "_units.csv", "_iou.csv"]
    assert all(
        (result / f"onet_layer3{suffix}").stat().st_mtime_ns == before[f"onet_layer3{suffix}"] for suffix in kept
    )


def test_a_report_is_one_row(small_dictionary, run_main, monkeypatch, capsys):
    def write_names(path, dissection):
        write_csv(path, [[dissection.findings.top_concept(unit)] for unit in range(dissection.findings.units)])

    monkeypatch.setattr(main, "REPORTS", (*REPORTS, Stage("_names.csv", "names", ("_tally.npz",), make=write_names)))
    result = run_main()
    assert len((result / "onet_layer3_names.csv").read_text().splitlines()) == 64
    assert f"names            {result / 'onet_layer3_names.csv'}" in capsys.readouterr().out


@dataclass
class LabelFormat(Format):
    """A dictionary of label images: <name>.png, and <name>_labels.png whose levels are numbers of labels.txt."""

    root: Path
    categories: object = None

    def __post_init__(self):
        self.listed = {name: Concept(name, "label") for name in (self.root / "labels.txt").read_text().split()}

    @staticmethod
    def recognises(root):
        return (root / "labels.txt").exists()

    def read_index(self):
        images = sorted(path.name for path in self.root.glob("*.png") if "_labels" not in path.name)
        masks = dict.fromkeys(self.listed, True)
        return Rows.of(Row(index, name, name, masks) for index, name in enumerate(images)), []

    def files(self, row):
        return [row.image.replace(".png", "_labels.png")]

    def concepts_of(self, rows, carried):
        return tuple(self.listed.values()) if rows else ()

    def check(self, row, image, files):
        return [Problem(row.where, found.error, row.index) for found in (image, *files) if found.error]

    def identity(self, row, digests):
        return digests

    def masks(self, row, grid, view, seg_threshold):
        labels = cv2.imread(str(self.root / row.image.replace(".png", "_labels.png")), cv2.IMREAD_GRAYSCALE)
        labels = cv2.resize(labels, grid[::-1], interpolation=cv2.INTER_NEAREST)
        return {name: labels == number for number, name in enumerate(self.listed, 1)}


@pytest.mark.usefixtures("no_pdfs")
def test_a_dictionary_format_is_one_row(tmp_path, run_main, monkeypatch):
    root, random = tmp_path / "dictionary", np.random.default_rng(0)
    root.mkdir()
    (root / "labels.txt").write_text("sky\ngrass\n")
    for number in range(6):
        cv2.imwrite(str(root / f"{number}.png"), cv2.resize(random.integers(0, 256, (6, 5, 3), np.uint8), (50, 60)))
        labels = np.repeat([[1], [2]], 30, axis=0) * np.ones((1, 50))
        cv2.imwrite(str(root / f"{number}_labels.png"), np.uint8(labels))
    monkeypatch.setattr(dictionary_room, "FORMATS", (*dictionary_room.FORMATS, LabelFormat))
    result = run_main()
    tally = load_as(Tally, result / "onet_layer3_tally.npz")
    assert tally.concepts.tolist() == ["sky", "grass"]
    assert (tally.union > 0).all() and (tally.types == "label").all()


def test_a_subgroup_of_ones_own_needs_no_code(small_dictionary, run, tmp_path):  # noqa: F811
    import nl_bias

    random = np.random.default_rng(7)
    for folder in ("Gender/Male", "Gender/Female", "Gender/Other people", "Hats/with", "Hats/without"):
        place = small_dictionary / "non_localizable" / folder
        place.mkdir(parents=True)
        for number in range(3):
            image = cv2.resize(random.integers(0, 256, (6, 5, 3), np.uint8), (50, 60))
            cv2.imwrite(str(place / f"{number}.png"), image)
    (small_dictionary / "groups.csv").write_text(
        "concept,group,folder\ngender,other,Gender/Other people\nhat,with,Hats/with\nhat,without,Hats/without\n"
    )
    run(nl_bias, TASKS="onet")
    for concept, groups in {"gender": ["male", "female", "other"], "hat": ["with", "without"]}.items():
        arrays = np.load(tmp_path / "global" / f"onet_layer3_model_bias({concept}).npz")
        assert [name for name in arrays.files if name not in ("p_min", "p_max")] == groups
    assert json.loads((tmp_path / "global" / "onet_layer3_manifest.json").read_text())["format"] == 2
    for line, message in {
        "gender,male,Gender/M": "male of gender is listed already",
        "gender,x,Sex/x": "the folder of gender x must be Gender/<subgroup>, not 'Sex/x'",
        "hat,../x,Hats/x": "'../x' cannot be a name here",
    }.items():
        (small_dictionary / "groups.csv").write_text(f"concept,group,folder\n{line}\n")
        with pytest.raises(DissectionError, match=message.replace("(", r"\(")):
            run(nl_bias, TASKS="onet")


# ----------------------------------------------------------------------------------------------------------- layouts


TORCHVISION = {"TASK": "torchvision", "WEIGHTS": "random", "TOPN": 1}


@pytest.mark.parametrize(
    ("architecture", "layer", "size", "expected"),
    [
        ("swin_t", "features.7.1", 224, [12, 768, 7, 7]),
        ("convnext_tiny", "features.1.0.block.3", 64, [12, 384, 16, 16]),
        ("vit_b_32", "encoder.layers.encoder_layer_1", 224, [12, 768, 7, 7]),
    ],
)
def test_networks_of_other_layouts_are_dissected_by_their_units(
    small_dictionary, run_main, architecture, layer, size, expected
):
    result = run_main(**TORCHVISION, ARCHITECTURE=architecture, LAYER_NAME=layer, INPUT_SIZE=size)
    (path,) = result.glob("*_feature_size.npy")
    assert np.load(path).tolist() == expected
    manifest = json.loads(next(result.glob("*_manifest.json")).read_text())
    assert manifest["files"][".mmap"]["made_from"]["network"]["layout"] in ("channels last", "tokens, 7 x 7 behind 1")


def test_a_layer_without_places_is_dissected_with_a_warning(small_dictionary, run_main, capsys):
    result = run_main(**TORCHVISION, ARCHITECTURE="resnet18", LAYER_NAME="avgpool", INPUT_SIZE=64)
    out = capsys.readouterr().out
    assert "warning          1×1 maps: the layer has no places" in out
    assert "detectors        0 units" in out and "units            512" in out
    with open(result / "torchvision_random_avgpool_units.csv", newline="", encoding="utf-8") as file:
        assert not any(int(row["interpretable"]) for row in csv.DictReader(file))


class Backwards(nn.Module):
    """Gives its maps channels last, or as tokens behind leading ones."""

    def __init__(self, kind, units=6):
        super().__init__()
        self.kind, self.convolution, self.last = kind, nn.Conv2d(3, units, 4, stride=4, bias=False), nn.Identity()

    def forward(self, images):
        maps = self.convolution(images)
        if self.kind == "channels last":
            return self.last(maps.permute(0, 2, 3, 1))
        if self.kind == "maps":
            return self.last(maps)
        tokens = maps.flatten(2).permute(0, 2, 1)
        return self.last(torch.cat([tokens.new_ones(len(tokens), 1, tokens.shape[2]), tokens], dim=1))


@pytest.mark.parametrize("kind", ["maps", "channels last", "tokens"])
def test_every_layout_gives_the_same_maps(kind):
    network, images = Backwards(kind).eval(), torch.rand(3, 3, 32, 32)
    with ActivationRecorder(network, {"last": "last", "maps": "convolution"}) as recorder:
        for _ in range(2):  # the probe, and a pass that stops early
            recorded = recorder.run(images)
            assert recorded["last"].shape == (3, 6, 8, 8)
            assert torch.equal(recorded["last"], recorded["maps"])
            assert recorded["last"].is_contiguous()
    assert recorder.layouts["last"].kind == kind


def test_a_layout_that_cannot_be_told_is_said_and_can_be_stated():
    class Unclear(Backwards):
        def forward(self, images):
            assert images.shape[-1] == 24  # no other size, and as many units as places
            return super().forward(images)

    network, images = Unclear("channels last").eval(), torch.rand(2, 3, 24, 24)
    with pytest.raises(DissectionError) as caught, ActivationRecorder(network, {"last": "last"}) as recorder:
        recorder.run(images)
    assert "gives a tensor of shape (2, 6, 6, 6), in which units and places cannot be told apart" in str(caught.value)
    assert "layouts={'last': Layout('channels last')}" in str(caught.value)
    with ActivationRecorder(network, {"last": "last"}, {"last": Layout("channels last")}) as recorder:
        assert torch.equal(recorder.run(images)["last"], network.convolution(images))
    wrong = ActivationRecorder(Backwards("tokens").eval(), {"last": "last"}, {"last": Layout("tokens", (5, 7), 1)})
    with wrong, pytest.raises(DissectionError, match="36 tokens are not tokens, 5 x 7 behind 1"):
        wrong.run(images)
    with pytest.raises(DissectionError, match="is no layout: use"):
        Layout("sideways")


@pytest.mark.parametrize(
    ("shape", "elsewhere", "expected"),
    [
        ((1, 768, 7, 7), None, Layout("maps")),
        ((1, 7, 7, 768), None, Layout("channels last")),
        ((1, 7, 7, 7), (1, 7, 9, 9), Layout("maps")),
        ((1, 7, 7, 7), (1, 9, 9, 7), Layout("channels last")),
        ((1, 7, 7, 7), None, None),
        ((1, 512, 1, 1), (1, 512, 1, 1), Layout("maps")),
        ((1, 197, 768), None, Layout("tokens", (14, 14), 1)),
        ((1, 196, 768), None, Layout("tokens", (14, 14), 0)),
        ((1, 201, 768), None, Layout("tokens", (14, 14), 5)),
        ((1, 197, 1024), None, None),  # 1024 could be 32 x 32 places
        ((1, 197, 1024), (1, 257, 1024), Layout("tokens", (14, 14), 1)),
        ((1, 9, 768), None, None),  # 3 x 3, or 2 x 2 behind five
        ((1, 50, 768), (1, 50, 1024), None),
        ((1, 10), None, None),
    ],
)
def test_layouts_are_found_by_what_grows_with_the_image(shape, elsewhere, expected):
    assert find_layout(nn.Identity(), shape, elsewhere) == expected
