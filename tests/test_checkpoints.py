"""Checkpoints: read without running them, the weights that fit are found, and nothing is loaded in silence."""

import argparse
import datetime
import enum
import functools
import io
import os
import pickle
import random
import shutil
import struct
import sys
import time
import types
import typing
import uuid
import zipfile
from collections import Counter, OrderedDict, defaultdict, deque
from decimal import Decimal
from fractions import Fraction
from hashlib import sha256
from pathlib import Path, PureWindowsPath

import numpy as np
import pytest
import safetensors.torch
import torch
import torchvision
from torch import nn

import settings
from loader import models, pickles
from loader.checkpoints import read_checkpoint, state_dicts
from loader.models import ModelSpec, load_model
from store.run import used_settings
from tests.test_models import FOUR, BeautyTwin, message_of, trained_looking
from util.errors import DissectionError

pytestmark = pytest.mark.usefixtures("checkpoints_go_at_once")


def states_in(path):
    """{key: names} of the dicts of tensors in a file."""
    content, _ = read_checkpoint(path)
    return {found.key: found.state.keys() for found in state_dicts(content, path)}


# ------------------------------------------------------------------------------------------ checkpoints that do not fit


@pytest.fixture
def lenet_file(lenet):
    """Writes content by torch.save, or bytes as they are, and gives the error of loading it as LeNet's checkpoint."""

    def error_of(content, **options):
        path = lenet.folder / "lenet.pth"
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            torch.save(content, path, **options)
        message = message_of(lenet, ("fc",))  # which needs all tensors
        assert str(path) in message
        return message

    error_of.state = lenet(weights="random").module.state_dict()
    error_of.folder = lenet.folder
    return error_of


def test_missing_checkpoint_says_where_it_comes_from(lenet):
    message = message_of(lenet)
    assert f"LeNet (lenet) needs {lenet.folder / 'lenet.pth'}, which is not there: get it from a friend" in message
    assert "model/README.md" in message
    assert f"there is no checkpoint {lenet.folder}/other.pth" in message_of(lenet, weights=f"{lenet.folder}/other.pth")


def test_keys_that_do_not_match_are_counted_and_named(lenet_file):
    state = lenet_file.state
    message = lenet_file({f"net_{name}": value for name, value in state.items()})
    assert "does not fit LeNet (lenet): 6 of 6 tensors are missing (conv1.weight, conv1.bias, conv2.weight" in message
    assert "6 are unexpected (net_conv1.weight" in message and "and 2 more" in message and "model/README.md" in message
    assert "1 of 6 tensors are missing (fc.bias)" in lenet_file({n: v for n, v in state.items() if n != "fc.bias"})
    assert "1 are unexpected (conv1.gain)" in lenet_file(state | {"conv1.gain": torch.zeros(6)})
    several = lenet_file(
        {"epoch": 1, "nets": [{"fc.bias": torch.zeros(3)}, {n: state[n] for n in state if n > "conv2"}]}
    )
    assert "(closest: 'nets.1'): 2 of 6 tensors are missing (conv1.weight, conv1.bias)" in several
    other = lenet_file(state | {"conv2.weight": torch.zeros(16, 6, 3, 3)})
    assert "1 have another shape (conv2.weight is (16, 6, 3, 3), the network's (16, 6, 5, 5))" in other
    assert "NUM_CLASSES" not in other
    classes = lenet_file(state | {"fc.weight": torch.zeros(4, 400), "fc.bias": torch.zeros(4)})
    assert "NUM_CLASSES=4" in classes
    loader = lenet_file.folder / "model_loader_lenet.py"
    loader.write_text(loader.read_text().replace('options=("num_classes",),', ""))
    assert "NUM_CLASSES" not in lenet_file(state | {"fc.weight": torch.zeros(4, 400), "fc.bias": torch.zeros(4)})


def test_values_that_are_no_weights_are_named(lenet_file):
    state = lenet_file.state
    for value in (float("nan"), float("inf")):
        weight = state["conv2.weight"].clone()
        weight[3, 2, 1, 0] = value
        assert "conv2.weight holds values that are not finite" in lenet_file(state | {"conv2.weight": weight})
    integers = lenet_file(state | {"conv1.bias": torch.ones(6).int()})
    assert "conv1.bias is torch.int32, the network needs floats" in integers
    assert "fc.bias is no plain tensor but a value of type str" in lenet_file(state | {"fc.bias": "zero"})
    assert "no plain tensor but a torch.sparse_coo" in lenet_file(state | {"fc.bias": torch.ones(10).to_sparse()})
    assert "conv1.weight is no plain tensor but one without numbers, of the meta device" in lenet_file(
        {name: value.to("meta") for name, value in state.items()}
    )


def test_files_without_weights_are_refused(lenet_file):
    assert "holds no weights but a dict of epoch, score" in lenet_file({"epoch": 1, "score": 0.5})
    assert "holds no weights but an empty dict" in lenet_file({})
    assert "holds no weights but a value of type list" in lenet_file([1, 2])
    assert "holds no weights but a dict of state_dict" in lenet_file({"state_dict": {}})
    assert "is an empty file" in lenet_file(b"")
    assert "is a web page" in lenet_file(b"\n<!DOCTYPE html><html>Sign in</html>")
    assert "Git LFS pointer" in lenet_file(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    assert "is no PyTorch checkpoint: it begins with b'some text" in lenet_file(b"some text, no weights")
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as other:
        other.writestr("lenet/readme.txt", "unpack me")
    assert "is a zip archive of lenet/readme.txt and no checkpoint" in lenet_file(archive.getvalue())
    program = io.BytesIO()
    torch.jit.save(torch.jit.trace(nn.Conv2d(3, 1, 1), torch.zeros(1, 3, 4, 4)), program)
    assert "is a TorchScript program" in lenet_file(program.getvalue())


def test_unreadable_paths_are_refused(lenet):
    assert "Is a directory" in message_of(lenet, weights=str(lenet.folder))
    path = lenet.folder / "locked.pth"
    path.write_bytes(b"x")
    path.chmod(0)
    if not os.access(path, os.R_OK):  # the administrator may read everything
        assert "Permission denied" in message_of(lenet, weights=str(path))


@pytest.mark.parametrize("zipped", [True, False])
def test_damaged_files_are_refused(lenet_file, zipped):
    buffer = io.BytesIO()
    torch.save(lenet_file.state, buffer, _use_new_zipfile_serialization=zipped)
    content = buffer.getvalue()
    for length in (20, 200, 900, len(content) // 2, len(content) - 30):
        assert "damaged or cut short" in lenet_file(content[:length]), length
    if zipped:  # old files have no checksums: only what breaks their structure can be seen
        middle = content.index(lenet_file.state["fc.weight"].numpy().tobytes()) + 99
        flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        assert "fails its checksum" in lenet_file(flipped)
    generator = random.Random(0)
    start = 64 if zipped else 14
    for _ in range(40):  # random damage to the pickle ends in one of our errors or is harmless, never in another
        changed = bytearray(content)
        for place in generator.sample(range(start, start + 700), 3):
            changed[place] = generator.randrange(256)
        (lenet_file.folder / "changed.pth").write_bytes(changed)
        try:
            states_in(lenet_file.folder / "changed.pth")
        except DissectionError as error:
            assert "changed.pth" in str(error)


class Payload:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("zipped", [True, False])
def test_file_that_would_run_code_is_refused_and_its_code_does_not_run(lenet_file, protocol, zipped):
    proof = lenet_file.folder / "proof"
    content = {"state_dict": lenet_file.state, "payload": Payload(f"touch {proof}")}
    message = lenet_file(content, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    assert "run code" in message and "refused" in message
    named = "a pickle protocol above 3" if protocol == 4 else f"it names {os.system.__module__}.system"
    assert named in message
    assert not proof.exists()
    torch.load(lenet_file.folder / "lenet.pth", weights_only=False)
    assert proof.exists(), "the payload does nothing, so that the test shows nothing"


def test_bare_pickle_is_refused_and_its_code_does_not_run(lenet_file):
    proof = lenet_file.folder / "proof"
    message = lenet_file(pickle.dumps(Payload(f"touch {proof}"), protocol=2))
    assert f"is a bare pickle that names {os.system.__module__}.system" in message and "could run code" in message
    assert not proof.exists()


class Calls:
    """Pickles as a call of any function, without calling it."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def test_code_under_torchs_name_and_foreign_classes_do_not_run_either(lenet_file):
    proof = lenet_file.folder / "proof.pth"
    message = lenet_file({"state_dict": lenet_file.state, "payload": Calls(torch.save, [1], str(proof))})
    assert "is refused: torch says 'Unsupported global: GLOBAL torch.serialization.save was not" in message
    # A function of an allowed package is replaced by an inert stand-in: the file loads, and nothing is called.
    image = str(lenet_file.folder / "proof.png")
    call = Calls(torchvision.utils.save_image, torch.zeros(3, 8, 8), image)
    torch.save({"state_dict": lenet_file.state, "payload": call}, lenet_file.folder / "stand_in.pth")
    assert states_in(lenet_file.folder / "stand_in.pth")["state_dict"] == lenet_file.state.keys()
    assert not Path(image).exists() and not proof.exists()
    message = lenet_file({"net": ModelSpec("a", len, {}, 1)})
    assert "is refused: it names " in message and "torch.save(network.state_dict(), path)" in message


# ------------------------------------------------------------------------------------------------- Python 2 checkpoints


class Python2File:
    """Writes a checkpoint as PyTorch 0.3 under Python 2 did: byte strings, no memo, tensors by _rebuild_tensor."""

    def __init__(self):
        self.storages = []

    def encode(self, value):
        if isinstance(value, torch.Tensor):
            return self.tensor(value)
        if isinstance(value, np.float64):
            dtype = b"cnumpy\ndtype\n" + self.encode(("f8", 0, 1)) + b"R"
            dtype += self.encode((3, "<", None, None, None, -1, -1, 0)) + b"b"
            return b"cnumpy.core.multiarray\nscalar\n(" + dtype + self.encode(value.tobytes().decode("latin1")) + b"tR"
        if isinstance(value, OrderedDict):
            return b"ccollections\nOrderedDict\n" + self.encode(([list(pair) for pair in value.items()],)) + b"R"
        if isinstance(value, dict):
            return b"}(" + b"".join(self.encode(part) for pair in value.items() for part in pair) + b"u"
        if isinstance(value, list):
            return b"](" + b"".join(map(self.encode, value)) + b"e"
        if isinstance(value, tuple):
            return b"(" + b"".join(map(self.encode, value)) + b"t"
        return self.scalar(value)

    def scalar(self, value):
        if isinstance(value, str):
            text = value.encode("latin1")
            length = b"U" + struct.pack("<B", len(text)) if len(text) < 256 else b"T" + struct.pack("<i", len(text))
            return length + text
        if value is None or isinstance(value, bool):
            return {None: b"N", True: b"\x88", False: b"\x89"}[value]
        return b"J" + struct.pack("<i", value) if abs(value) < 2**31 else b"I%d\n" % value

    def tensor(self, tensor):
        self.storages.append(tensor.contiguous())
        key, kind = str(len(self.storages) - 1), {torch.float32: b"Float", torch.int64: b"Long"}[tensor.dtype]
        pointer = b"(" + self.encode("storage") + b"ctorch\n" + kind + b"Storage\n" + self.encode(key)
        pointer += self.encode("cuda:0") + self.encode(tensor.numel()) + b"NtQ"
        stride = tensor.contiguous().stride()
        arguments = b"(" + pointer + self.encode(0) + self.encode(tuple(tensor.shape)) + self.encode(stride) + b"t"
        return b"ctorch._utils\n_rebuild_tensor\n" + arguments + b"R"

    def write(self, path, value):
        facts = {"type_sizes": {"int": 4, "long": 4, "short": 2}, "protocol_version": 1001, "little_endian": True}
        magic = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"
        pickles = [magic, self.encode(1001), self.encode(facts), self.encode(value)]
        pickles.append(self.encode([str(key) for key in range(len(self.storages))]))
        with open(path, "wb") as file:
            for content in pickles:
                file.write(b"\x80\x02" + content + b".")
            for tensor in self.storages:
                file.write(struct.pack("<q", tensor.numel()) + tensor.numpy().tobytes())


@pytest.mark.parametrize("beside", [{}, {"arguments": "café " * 80, "best": np.float64(0.1), "seen": 3_000_000_000}])
def test_python2_checkpoint_of_beauty_loads(tmp_path, beside):
    twin = trained_looking(BeautyTwin())
    state = OrderedDict((k, v) for k, v in twin.state_dict().items() if not k.endswith("num_batches_tracked"))
    parallel = OrderedDict((f"module.{name}", value) for name, value in state.items())
    Python2File().write(tmp_path / "resnet18.pth", beside | {"state_dict": parallel, "epoch": 8})
    with open(tmp_path / "resnet18.pth", "rb") as file:
        assert b"U\nstate_dict" in file.read(2000)
    model = load_model("beauty", FOUR, model_folder=tmp_path)
    loaded = model.module.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in state.items())


# ------------------------------------------------------------------------------------------------- the one rule for all


class Tiny(nn.Sequential):
    """Small enough for checkpoints of a few kilobytes. The layers end with 4; 7 is the head."""

    def __init__(self, classes=5):
        super().__init__(
            nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, classes),
        )  # fmt: skip


class Wrapped(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = Tiny()
        self.score = nn.Linear(5, 1)

    def forward(self, images):
        return self.score(self.backbone(images))


def tiny_state(seed=1, classes=5):
    torch.manual_seed(seed)
    return trained_looking(Tiny(classes)).state_dict()


def under(prefix, state):
    return {f"{prefix}{name}": value for name, value in state.items()}


@pytest.fixture
def loaded(tmp_path, monkeypatch, caplog):
    """Loads content, or a file of that path, into what build returns. Returns the model; .line is what was logged."""

    def load(content, build=Tiny, layer="4", stated=None, **settings):
        spec = ModelSpec(network="tiny", build=build, layers={}, side_px=32, **(stated or {}))
        monkeypatch.setattr(models, "model_spec", lambda *_: spec)
        if content is not None and not isinstance(content, str | Path):
            torch.save(content, tmp_path / "file.pth")
        path = content if isinstance(content, str | Path) else tmp_path / "file.pth" if content is not None else None
        caplog.set_level("INFO")
        caplog.clear()
        model = load_model("tiny", [layer], weights=path and str(path), **settings)
        model.line = caplog.text
        return model

    return load


def assert_holds(module, state, names=None):
    own = module.state_dict()
    for name in names or [name for name in state if not name.endswith("num_batches_tracked")]:
        assert torch.equal(own[name], state[name]), name


STATE = tiny_state()
OTHER = {name: value + 0.5 if value.is_floating_point() else value for name, value in STATE.items()}


class Holder:
    """An object of a training script, with its weights in an attribute."""

    def __init__(self, weights):
        self.weights = weights


@pytest.mark.parametrize(
    ("content", "key", "line"),
    [
        (STATE, "", "took the state dict\n"),
        (under("module.", STATE), "module", "took the state dict without the prefix 'module.'"),
        (under("_orig_mod.", STATE), "_orig_mod", "without the prefix '_orig_mod.'"),
        ({"state_dict": under("model.net.module.", STATE)}, "state_dict.model.net.module", "'model.net.module.'"),
        (under("student._orig_mod.", STATE), "student", "without the prefix 'student.'"),
        ({"a": {"b": [{"c": STATE}]}, "epoch": 3}, "a.b.0.c", "took 'a.b.0.c'"),
        ((3, [STATE, 0.5]), "1.0", "took '1.0'"),
        ({"net": STATE, "optimizer": {"state": {0: {"step": torch.ones(1)}}}}, "net", "took 'net'\n"),
        ({"nets": {"generator": {"weight": torch.ones(2)}, "face": STATE}}, "nets.face",
         "took 'nets.face'; the file also has 'nets.generator', which does not fit"),
        (under("module.", STATE) | {"queue": torch.ones(4, 4), "module.0.total_ops": torch.ones(1)}, "module",
         "left 0.total_ops, queue"),
        ({"trainer": Holder(STATE)}, "trainer.weights", "took 'trainer.weights'"),
        ({"model": Tiny(), "state_dict": STATE}, "state_dict",
         "took 'state_dict'; the file also has 'model', which CHECKPOINT_KEY=model takes"),
        ({"model": STATE, "model_state_dict": OTHER}, "model", "CHECKPOINT_KEY=model_state_dict takes"),
        ({"net": STATE, "best": dict(STATE)}, "net", "the file also has 'best', the same"),
        ({"state_dict": STATE | under("teacher.", OTHER)}, "state_dict", "left teacher (10 tensors); the file also has 'state_dict' without the prefix 'teacher.'"),  # noqa: E501
        ({**under("net.", STATE), **under("loss.", {"weight": torch.ones(3)})}, "net", "left loss.weight"),
    ],
)  # fmt: skip
def test_the_dict_and_the_prefix_that_fit_are_found_and_said(loaded, content, key, line):
    model = loaded(content)
    assert_holds(model.module, STATE)
    assert (model.weights.key, model.weights.averaged, model.unfitted) == (key, False, ())
    assert line in model.line and model.line.count("took") == 1
    if key:
        assert loaded(content, checkpoint_key=key).weights == model.weights


def test_weights_that_several_fit_are_refused_with_the_choice_and_chosen_by_the_key(loaded):
    moco = {"state_dict": under("module.encoder_q.", STATE) | under("module.encoder_k.", OTHER)}
    message = message_of(loaded, moco)
    assert "holds several weights that fit, 'state_dict' without the prefix 'module.encoder_q.', 'state_d" in message
    assert "set CHECKPOINT_KEY=state_dict.module.encoder_q or CHECKPOINT_KEY=state_dict.module.encoder_k" in message
    assert_holds(loaded(moco, checkpoint_key="state_dict.module.encoder_k").module, OTHER)
    assert "CHECKPOINT_KEY=net_a or CHECKPOINT_KEY=net_b" in message_of(loaded, {"net_a": STATE, "net_b": OTHER})
    assert_holds(loaded({"net_a": STATE, "net_b": OTHER}, checkpoint_key="net_b").module, OTHER)
    unknown = message_of(loaded, {"net_a": STATE, "net_b": OTHER}, checkpoint_key="net_c")
    assert unknown.endswith("as CHECKPOINT_KEY asks: set CHECKPOINT_KEY=net_a or CHECKPOINT_KEY=net_b")
    unknown = message_of(loaded, moco, checkpoint_key="encoder_k")  # named by the whole of its key alone
    assert "set CHECKPOINT_KEY=state_dict.module.encoder_q or CHECKPOINT_KEY=state_dict.module.encoder_k" in unknown
    unknown = message_of(loaded, {"critic": {"weight": torch.ones(2)}}, checkpoint_key="critics")
    assert "did you mean critic? It has critic" in unknown
    other = message_of(loaded, {"net": STATE, "critic": {"weight": torch.ones(2)}}, checkpoint_key="critic")
    assert "does not fit tiny (tiny) (closest: 'critic'): 8 of 8 tensors are missing" in other
    assert "; set CHECKPOINT_KEY=net. " in other


def test_two_weights_of_one_name_make_a_file_ambiguous(loaded):
    twice = {"a.b": STATE, "a": {"b": OTHER}}
    for key in (None, "a.b"):
        message = message_of(loaded, twice, checkpoint_key=key)
        assert "weights that fit, 'a.b', 'a.b': their names are the same, so that the file is ambiguous" in message
    assert message_of(loaded, {**twice, "net": STATE | {"7.bias": torch.ones(5)}}).endswith(": set CHECKPOINT_KEY=net")
    assert_holds(loaded({"a.b": STATE, "a": {"b": {"weight": torch.ones(2)}}}, checkpoint_key="a.b").module, STATE)
    assert_holds(loaded({"a.b": STATE, "a": {"b": dict(STATE)}}).module, STATE)


@pytest.mark.parametrize(
    ("content", "plain", "averaged"),
    [
        ({"params": STATE, "params_ema": OTHER}, "params", "params_ema"),
        ({"model": STATE, "modelEMA": {"module": OTHER}}, "model", "modelEMA.module"),
        ({"state_dict": under("model.", STATE) | under("ema_model.module.", OTHER)}, "state_dict.model",
         "state_dict.ema_model.module"),
        ({"swa": OTHER, "last": STATE}, "last", "swa"),
        ({"model": STATE, "ema": {"decay": 0.9, "shadow": OTHER}}, "model", "ema.shadow"),
    ],
)  # fmt: skip
def test_averaged_weights_stand_back_and_are_there_for_the_key(loaded, content, plain, averaged):
    model = loaded(content)
    assert_holds(model.module, STATE)
    assert (model.weights.key, model.weights.averaged) == (plain, False)
    if averaged.partition(".")[0] != plain.partition(".")[0]:
        assert f"(averaged over training), which CHECKPOINT_KEY={averaged} takes" in model.line
    chosen = loaded(content, checkpoint_key=averaged)
    assert_holds(chosen.module, OTHER)
    assert (chosen.weights.key, chosen.weights.averaged) == (averaged, True)


def test_what_lies_beside_the_weights_hinders_nothing(loaded):
    class Particular(Tiny):
        def _load_from_state_dict(self, state, prefix, *rest):
            if f"{prefix}7.weight" not in state:
                raise ValueError("no head")
            super()._load_from_state_dict(state, prefix, *rest)

    critic = {"0.weight": STATE["0.weight"]}
    assert_holds(loaded({"critic": critic, "net": STATE}, build=Particular).module, STATE)
    assert "cannot be loaded into tiny (tiny): no head" in message_of(
        loaded, {name: STATE[name] for name in STATE if name < "7"}, build=Particular
    )
    assert loaded({"epoch": torch.tensor(3), "state_dict": STATE}).line.endswith("took 'state_dict'\n")


def test_averaged_weights_alone_are_taken_and_said(loaded):
    average = torch.optim.swa_utils.AveragedModel(Tiny())
    for content in ({"model_ema": STATE}, average.state_dict(), {"swa_model": average.state_dict()}):
        model = loaded(content)
        assert model.weights.averaged and "(averaged over training)" in model.line
    assert not loaded({"schema": STATE}).weights.averaged
    message = message_of(loaded, {"ema_short": STATE, "ema_long": OTHER})
    assert "set CHECKPOINT_KEY=ema_short or CHECKPOINT_KEY=ema_long" in message


def test_a_network_that_wraps_what_the_file_holds(loaded):
    for prefix in ("", "module.", "model."):
        model = loaded(under(prefix, STATE), build=Wrapped, layer="backbone.4")
        assert_holds(model.module.backbone, STATE)
        assert "with 'backbone.' before its names" in model.line and model.unfitted == ("score.weight", "score.bias")
    # Under another name than that of a wrapper they are other weights, however well their shapes fit.
    assert "does not fit" in message_of(loaded, under("critic.", STATE), build=Wrapped, layer="backbone.4")
    assert "does not fit" in message_of(loaded, under("", {"weight": STATE["0.weight"], "bias": STATE["0.bias"]}))


def test_names_that_torch_compile_puts_within_names_are_no_others(loaded):
    model = loaded(under("backbone._orig_mod.", STATE) | {"score.weight": torch.ones(1, 5)}, Wrapped, "backbone.4")
    assert_holds(model.module.backbone, STATE)
    assert model.unfitted == ("score.bias",)


def test_a_part_that_was_trained_in_parallel_loads_and_a_networks_own_module_stays(loaded):
    network = Wrapped()
    network.backbone = nn.DataParallel(network.backbone)
    parallel = network.state_dict()
    assert "backbone.module.0.weight" in parallel
    for content, key in ((parallel, ""), ({"state_dict": under("module.", parallel)}, "state_dict.module")):
        model = loaded(content, build=Wrapped, layer="backbone.4")
        assert_holds(model.module, {name.replace(".module.", "."): value for name, value in parallel.items()})
        assert (model.weights.key, model.unfitted) == (key, ())

    class OfItsOwn(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential()
            self.body.module = Tiny()

        def forward(self, images):
            return self.body.module(images)

    assert_holds(loaded(under("body.module.", STATE), build=OfItsOwn, layer="body.module.4").module.body.module, STATE)
    message = message_of(loaded, under("other.module.", STATE), build=Wrapped, layer="backbone.4")
    assert "tensors are missing (backbone.0.weight" in message and "unexpected (other.module.0.weight" in message


def test_layers_behind_the_dissected_ones_may_be_missing_or_of_another_shape_and_that_is_said(loaded):
    seven = tiny_state(classes=7)
    model = loaded(seven)
    assert_holds(model.module, seven, [name for name in seven if name < "7" and "tracked" not in name])
    assert model.unfitted == ("7.weight", "7.bias")
    assert "left 7 (2 tensors) (7.weight is (7, 16), the network's (5, 16), 7.bias" in model.line
    assert "without usable weights of it, behind the dissected layers: 7 (2 tensors)\n" in model.line
    trunk = {name: value for name, value in STATE.items() if name < "3"}
    assert loaded(trunk, layer="2").unfitted == ("3.weight", "3.bias", "7.weight", "7.bias")
    assert "2 of 8 tensors are missing (3.weight, 3.bias)" in message_of(loaded, trunk)
    spoiled = STATE | {"7.weight": STATE["7.weight"] * float("nan"), "7.bias": STATE["7.bias"].int()}
    model = loaded(spoiled)
    assert model.unfitted == ("7.bias", "7.weight")
    assert "7 (2 tensors) (7.bias is torch.int32, the network needs floats, 7.weight is not finite (NaN" in model.line
    for value, told in (
        (STATE["7.weight"].to_sparse(), "(7.weight is no plain tensor but a torch.sparse_coo torch.float32 tensor)"),
        (STATE["7.weight"].to(torch.complex64), "(7.weight is torch.complex64, the network needs floats)"),
        (STATE["7.weight"].to("meta"), "(7.weight is no plain tensor but one without numbers, of the meta device)"),
    ):
        model = loaded(STATE | {"7.weight": value})
        assert model.unfitted == ("7.weight",)
        assert f"without usable weights of it, behind the dissected layers: 7.weight {told}" in model.line


def test_weights_within_what_the_layers_are_computed_by_may_not_be_left(loaded):
    assert "1 are unexpected (0.gain)" in message_of(loaded, STATE | {"0.gain": torch.ones(8)})


def test_a_deeper_network_of_the_same_names_is_another(tmp_path):
    torch.save(torchvision.models.resnet34().state_dict(), tmp_path / "34.pth")
    settings = {"weights": str(tmp_path / "34.pth"), "architecture": "resnet18"}
    load_model("torchvision", ["layer1.1.conv2"], **settings)  # up to here they are the same network
    message = message_of(load_model, "torchvision", ["layer2.0.conv1"], **settings)
    assert "are unexpected (layer1.2.conv1.weight" in message


def test_a_tensor_of_two_names_needs_one_of_them_and_no_two_values(tmp_path):
    torch.manual_seed(0)
    state = models.model_spec("fairface").build(num_classes=3).state_dict()
    path, settings = tmp_path / "fairface.pt", {"weights": str(tmp_path / "fairface.pt"), "num_classes": 3}
    for names in ("model.", "cnn."):
        torch.save({name: value for name, value in state.items() if name.startswith(names)}, path)
        module = load_model("fairface", ["layer1"], **settings).module
        assert torch.equal(module.model.conv1.weight, state["model.conv1.weight"])
    torch.save(state | {"cnn.0.weight": state["cnn.0.weight"] + 1}, path)
    message = message_of(load_model, "fairface", ["layer1"], **settings)
    assert "model.conv1.weight and cnn.0.weight are one tensor in the network, but here they differ" in message


class Positioned(nn.Module):
    """Uses the weight of a module that it never calls."""

    def __init__(self):
        super().__init__()
        self.places, self.stem, self.out = nn.Embedding(16, 16), nn.Conv2d(3, 4, 2, 2), nn.Identity()

    def forward(self, images):
        return self.out(self.stem(images) + self.places.weight)


def test_tensors_that_are_used_without_a_call_are_needed(loaded):
    state = Positioned().state_dict()
    assert_holds(loaded(state, Positioned, "out").module, state)
    del state["places.weight"]
    assert "1 of 3 tensors are missing (places.weight)" in message_of(loaded, state, Positioned, "out")
    assert loaded(state, Positioned, "stem").unfitted == ("places.weight",)


def test_the_digest_is_that_of_the_file_or_of_the_tensors(loaded, tmp_path):
    model = loaded(STATE)
    assert model.weights.digest == sha256((tmp_path / "file.pth").read_bytes()).hexdigest()[:8]
    assert model.weights.label == model.weights_label == str(tmp_path / "file.pth")
    given = [loaded(None, stated={"pretrained": lambda state=state: state}).weights for state in (STATE, STATE, OTHER)]
    assert given[0] == given[1] != given[2] and given[0].label == "from the loader's pretrained()"
    assert loaded(None, stated={"pretrained": lambda: tiny_state(classes=3)}).unfitted == ("7.weight", "7.bias")
    drawn = [loaded("random", seed=seed).weights.digest for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


# ------------------------------------------------------------------------------ names and shapes that libraries changed


@pytest.mark.parametrize("prefix", ["", "module.", "features."])
def test_densenets_of_2018_load_by_torchvisions_own_rule(tmp_path, prefix):
    torch.manual_seed(0)
    network = trained_looking(torchvision.models.densenet121(num_classes=2))
    old = {}
    for name, value in network.state_dict().items():
        for part in ("norm", "relu", "conv"):
            for number in "12":
                name = name.replace(f".{part}{number}.", f".{part}.{number}.") if "denselayer" in name else name
        old[prefix + name] = value
    assert f"{prefix}features.denseblock1.denselayer1.norm.1.weight" in old
    torch.save(old, tmp_path / "old.pth")
    settings = {"architecture": "densenet121", "num_classes": 2, "weights": str(tmp_path / "old.pth")}
    model = load_model("torchvision", ["features.denseblock4"], **settings)
    assert_holds(model.module, network.state_dict())
    assert model.unfitted == ()


def test_a_loaders_own_rule_for_names_may_fail_and_that_is_said(loaded):
    stated = {"renamed": lambda state: {name.replace("conv", ""): value for name, value in state.items()}}
    assert_holds(loaded(under("conv", STATE), stated=stated).module, STATE)
    message = message_of(loaded, STATE, stated={"renamed": lambda state: state["lost"]})
    assert "the loader's renamed() failed with KeyError: 'lost'" in message


def test_conversions_of_modules_themselves_go_on_working(loaded):
    def normed():
        network = Tiny()
        nn.utils.parametrizations.weight_norm(network[0])
        return network

    class Growing(nn.Conv2d):
        def _load_from_state_dict(self, state, prefix, *rest):
            state[f"{prefix}weight"] = state[f"{prefix}weight"].expand(8, 3, 3, 3)  # from one colour
            super()._load_from_state_dict(state, prefix, *rest)

    old = {name: value for name, value in STATE.items() if name != "0.weight"}
    old |= {"0.weight_g": torch.ones(8, 1, 1, 1), "0.weight_v": STATE["0.weight"]}
    model = loaded(under("net.", old), build=normed)
    norm = STATE["0.weight"].flatten(1).norm(dim=1)[:, None, None, None]
    assert torch.allclose(model.module[0].weight, STATE["0.weight"] / norm)

    def growing():
        network = Tiny()
        network[0] = Growing(3, 8, 3, 2, 1)
        return network

    gray = STATE | {"0.weight": STATE["0.weight"][:, :1]}
    assert torch.equal(loaded(gray, build=growing).module[0].weight[:, 2], gray["0.weight"][:, 0])
    before_metadata = {name: value for name, value in STATE.items() if "tracked" not in name}
    assert_holds(loaded(before_metadata).module, before_metadata)


# ---------------------------------------------------------------------------------------------------------- safetensors


def save_safetensors(state, path, **facts):
    safetensors.torch.save_file({name: value.contiguous() for name, value in state.items()}, path, **facts)
    return path


def test_safetensors_are_read_by_their_content(loaded, tmp_path):
    model = loaded(save_safetensors(STATE, tmp_path / "a.safetensors", metadata={"format": "pt"}))
    assert_holds(model.module, STATE)
    assert model.weights.key == ""
    model = loaded(save_safetensors(under("backbone.", STATE), tmp_path / "named.pth"))
    assert_holds(model.module, STATE)
    half = {name: value.bfloat16() if value.is_floating_point() else value for name, value in STATE.items()}
    model = loaded(save_safetensors(half, tmp_path / "half.bin"))
    assert torch.equal(model.module[0].weight, half["0.weight"].float())


def test_safetensors_of_a_network_that_asks_for_its_version_load(tmp_path):
    network = trained_looking(torchvision.models.mnasnet0_5(num_classes=2))
    path = save_safetensors(network.state_dict(), tmp_path / "mnasnet.safetensors")
    settings = {"architecture": "mnasnet0_5", "num_classes": 2, "weights": str(path)}
    assert_holds(load_model("torchvision", ["layers.0"], **settings).module, network.state_dict())


def header(text, data=b"", length=None):
    return struct.pack("<Q", len(text) if length is None else length) + text.encode() + data


def test_damaged_and_hostile_safetensors_are_refused(loaded, tmp_path):
    good = save_safetensors(STATE, tmp_path / "good.safetensors").read_bytes()
    entry = '"%s":{"dtype":"F32","shape":[%s],"data_offsets":[%s]}'
    one, same = entry % ("a", 2, "0,8"), entry % ("b", 2, "4,12")
    contents = [
        good[:9], good[:200], good[:-1], good + b"x",
        header("{" + one + "," + same + "}", bytes(12)),  # overlapping
        header("{" + entry % ("a", 2, "0,9999999999999") + "}", bytes(8)),
        header("{" + entry % ("a", "4611686018427387904,4", "0,0") + "}", bytes(8)),
        header("{" + entry % ("a", 2, "8,0") + "}", bytes(8)),
        header("{" * 5000), header("{}", length=2**63), header("{}", length=2**40), header('{"a":1}'),
    ]  # fmt: skip
    for content in contents:
        (tmp_path / "bad.safetensors").write_bytes(content)
        message = message_of(loaded, tmp_path / "bad.safetensors")
        assert "bad.safetensors is damaged or cut short" in message, content[:60]
    (tmp_path / "bad.safetensors").write_bytes(header("{}"))
    assert "holds no weights but an empty dict" in message_of(loaded, tmp_path / "bad.safetensors")


# ------------------------------------------------------------------------------------ what training scripts keep beside


def foreign(monkeypatch, name, base=object, **members):
    """A class of a library that isn't there: it can be pickled now, and imported no more when the test has saved it."""
    parts = name.split(".")
    kind = type(parts[-1], (base,), {**members, "__module__": ".".join(parts[:-1])})
    for depth in range(1, len(parts)):
        path = ".".join(parts[:depth])
        if path not in sys.modules:
            monkeypatch.setitem(sys.modules, path, types.ModuleType(path))
    setattr(sys.modules[kind.__module__], parts[-1], kind)
    return kind


class Level(enum.Enum):
    HIGH = 1


Level.__module__ = "omegaconf._utils"


def hyper_parameters(monkeypatch):
    """What real files hold beside the weights, by name."""
    config = foreign(monkeypatch, "omegaconf.dictconfig.DictConfig")()
    config.__dict__.update(_metadata=foreign(monkeypatch, "omegaconf.base.Metadata")(), _content={"lr": 0.1})
    config.element_type, config.ref_type, config.key_type = typing.Any, typing.Dict[str, int], int  # noqa: UP006
    foreign(monkeypatch, "omegaconf._utils.Level")
    sys.modules["omegaconf._utils"].Level = Level
    easy = foreign(monkeypatch, "easydict.EasyDict", dict)(lr=0.1, nested={"a": 1})
    easy.__dict__.update(easy)
    names = foreign(monkeypatch, "their_program.config.Names", list)(["a", "b"])
    own = foreign(monkeypatch, "their_program.config.AttrDict", dict)(lr=0.1)
    slotted = foreign(monkeypatch, "their_program.config.Slotted", __slots__=("lr",))()
    slotted.lr = 0.1
    nested = defaultdict(dict, {"a": {"b": Path("runs/1")}})
    return {
        "paths": [Path("a/b"), PureWindowsPath("c:/d")], "date": datetime.datetime(2024, 1, 2, tzinfo=datetime.UTC),
        "took": datetime.timedelta(3), "defaults": nested, "lists": defaultdict(list, {"x": [1]}), "last": deque([1]),
        "omegaconf": config, "level": Level.HIGH, "easydict": easy, "own": own, "names": names, "slotted": slotted,
        "lightning": foreign(monkeypatch, "pytorch_lightning.utilities.parsing.AttributeDict", dict)(lr=0.1),
        "args": argparse.Namespace(lr=0.1, out=Path("x")), "space": types.SimpleNamespace(a=1, b=[2]),
        "exact": [Decimal("0.1"), Fraction(1, 3), uuid.UUID(int=7), frozenset("a"), range(3), slice(1), 1j, b"bytes"],
        "numbers": [np.float32(0.5), np.arange(3), np.dtype("int64"), np.random.default_rng(0).bit_generator.state],
        "random": random.getstate(), "torch": torch.__version__, "dtype": torch.float16, "device": torch.device("cpu"),
        "optimizer": torch.optim.SGD(Tiny().parameters()).state_dict(), "shape": torch.Size([1, 2]), "kind": typing.Any,
        "counter": Counter("abc"), "partial": functools.partial(nn.BatchNorm2d, eps=0.1), "type": nn.ReLU, "none": None,
    }  # fmt: skip


class Loud(nn.Module):
    """Tells when any of it is run."""

    ran = []

    def __init__(self):
        super().__init__()
        self.net = with_state(STATE)

    def __setstate__(self, state):
        self.ran.append("set")
        super().__setstate__(state)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("wrapped", [lambda net: net, nn.DataParallel, lambda net: {"model": net, "epoch": 3}])
def test_whole_networks_load_and_none_of_their_code_runs(loaded, tmp_path, zipped, wrapped):
    torch.save(wrapped(with_state(STATE)), tmp_path / "whole.pth", _use_new_zipfile_serialization=zipped)
    assert_holds(loaded(tmp_path / "whole.pth").module, STATE)
    torch.save(wrapped(Loud()), tmp_path / "loud.pth", _use_new_zipfile_serialization=zipped)
    assert_holds(loaded(tmp_path / "loud.pth").module, STATE)
    assert not Loud.ran


def with_state(state):
    net = Tiny()
    net.load_state_dict(state)
    return net


@pytest.mark.parametrize("architecture", ["resnet18", "densenet161"])
def test_whole_networks_of_places365_before_pytorch_1_6_load(tmp_path, architecture):
    network = getattr(torchvision.models, architecture)(num_classes=365)
    torch.save(network, tmp_path / "whole.pth.tar", _use_new_zipfile_serialization=False)
    model = load_model(
        "torchvision", ["features" if architecture == "densenet161" else "layer4"],
        weights=str(tmp_path / "whole.pth.tar"), architecture=architecture, num_classes=365,
    )  # fmt: skip
    assert_holds(model.module, network.state_dict())


def test_a_call_hidden_where_a_class_is_named_is_refused(lenet_file, tmp_path):
    proof = tmp_path / "proof"
    torch.save(nn.Conv2d(3, 6, 5), tmp_path / "whole.pth", _use_new_zipfile_serialization=False)
    content = (tmp_path / "whole.pth").read_bytes()
    assert b"ctorch.nn.modules.conv\nConv2d\n" in content
    hostile = content.replace(b"ctorch.nn.modules.conv\nConv2d\n", b"cos\nsystem\n")
    message = lenet_file(hostile)
    assert "is refused: it names os.system" in message and not proof.exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_hyper_parameters_of_any_kind_lie_beside_the_weights_and_nothing_is_imported(
    loaded, monkeypatch, tmp_path, zipped
):
    with monkeypatch.context() as libraries:
        beside = hyper_parameters(libraries)
        content = {**beside, "state_dict": STATE, "hyper_parameters": beside}
        torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
        for name, value in beside.items():  # each alone, so that none covers for another
            torch.save(
                {"state_dict": STATE, name: value}, tmp_path / f"{name}.pth", _use_new_zipfile_serialization=zipped
            )
    for path in [tmp_path / "a.pth", *(tmp_path / f"{name}.pth" for name in beside)]:
        assert_holds(loaded(path).module, STATE)
    assert not {"omegaconf", "easydict", "their_program", "pytorch_lightning"} & sys.modules.keys()


def test_weights_within_the_dictionaries_of_libraries_are_found(loaded, monkeypatch, tmp_path):
    with monkeypatch.context() as libraries:
        for name in ("easydict.EasyDict", "lightning_fabric.utilities.data.AttributeDict", "their_program.AttrDict"):
            kind = foreign(libraries, name, dict)
            torch.save({"trained": kind(kind(epoch=1), net=kind(STATE))}, tmp_path / f"{kind.__name__}.pth")
        torch.save(defaultdict(dict, {"trained": {"net": STATE}}), tmp_path / "defaultdict.pth")
        torch.save({"trained": types.SimpleNamespace(net=STATE)}, tmp_path / "SimpleNamespace.pth")
    for name in ("EasyDict", "AttributeDict", "AttrDict", "defaultdict", "SimpleNamespace"):
        model = loaded(tmp_path / f"{name}.pth")
        assert_holds(model.module, STATE)
        assert model.weights.key == "trained.net"


# ------------------------------------------------------------------------------------------------------ malicious files


PROTOCOL = b"\x80\x02"


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def archive_of(path, pickled, member="archive/data.pkl"):
    """Write a file as torch.save does, around a pickle made by hand."""
    buffer = io.BytesIO()
    torch.save({}, buffer)
    with zipfile.ZipFile(buffer) as plain, zipfile.ZipFile(path, "w") as file:
        for name in plain.namelist():
            file.writestr(member if name.endswith("data.pkl") else name, pickled if "pkl" in name else plain.read(name))
    return path


# Each ends with one object on the stack, and would make the file PROOF where it is run.
SYSTEM = b"cposix\nsystem\n"
TOUCH = text("touch PROOF")
HOSTILE = {
    "a call": (SYSTEM + TOUCH + b"\x85R", "it names posix.system"),
    "a call through the memo": (SYSTEM + b"q\x010" + b"h\x01" + TOUCH + b"\x85R", "it names posix.system"),
    "INST": (b"(" + TOUCH + b"iposix\nsystem\n", "it names posix.system"),
    "OBJ": (b"(" + SYSTEM + TOUCH + b"o", "it names posix.system"),
    "NEWOBJ": (SYSTEM + TOUCH + b"\x85\x81", "it names posix.system"),
    "NEWOBJ_EX": (SYSTEM + TOUCH + b"\x85}\x92", "it names posix.system"),
    "Python 2's name": (b"c__builtin__\neval\n" + TOUCH + b"\x85R", "it names builtins.eval"),
    "a name within": (b"cos\npath.os.system\n" + TOUCH + b"\x85R", "it names os.path.os.system"),
    "a getter": (b"cbuiltins\ngetattr\ncnumpy\nf2py\n" + text("os") + b"\x86R", "it names builtins.getattr"),
    "a partial": (b"cfunctools\npartial\n" + SYSTEM + b"\x85R", "it names posix.system"),
    "a reducer": (b"cfunctools\nreduce\ncnumpy\nadd\n]\x86R", "it names functools.reduce"),
    "an attribute's caller": (b"coperator\nmethodcaller\n" + TOUCH + b"\x85R", "it names operator.methodcaller"),
    "a pickle within": (b"cpickle\nloads\n" + text("cos\nsystem\n(S'touch PROOF'\ntR.") + b"\x85R", "pickle.loads"),
    "a module's own": (b"c__main__\nrun\n" + TOUCH + b"\x85R", "it would run code, for it calls __main__.run"),
    "a package's own": (b"ctheir_program\nrun\n)R", "it would run code, for it calls their_program.run"),
    "an object's call": (b"ctheir_program\nRun\n)\x81" + TOUCH + b"\x85R", "call reduce for unrecognized function"),
    "code as data": (b"ctypes\nCodeType\n)R", "it names types.CodeType"),
    "a download": (b"ctorch.hub\nload_state_dict_from_url\n" + text("http://x") + b"\x85R", "torch says"),
    "a class that is changed": (b"ctheir_program\nRun\n}" + text("__call__") + SYSTEM + b"sb", "it names posix.system"),
    "a torch class that is changed": (b"ctorch\nTensor\n}" + text("x") + b"K\x01sb", "torch says"),
    "a state that is set": (b"ctheir_program\nRun\n)\x81}" + text("__setstate__") + b"cnumpy\nsave\nsbN}\x86b", None),
    "methods of a dict": (b"ccollections\nOrderedDict\n)R}" + text("items") + b"cnumpy\nsave\nsb", None),
    "an extension": (b"\x82\x01", "a pickle protocol above 3"),
    "a stack without operands": (b"R", "damaged or cut short"),
    "an unknown memo": (b"h\x07", "damaged or cut short"),
    "a huge text": (b"X\xff\xff\xff\xffshort", "damaged or cut short"),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_pickles_run_nothing(loaded, tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    code, expected = HOSTILE[kind]
    for start, end in ((b"", b""), (b"}" + text("payload"), b"s"), (b"}" + text("a") + b"]" + text("x") + b"a", b"as")):
        pickled = PROTOCOL + start + code + (b"as" if b"]" in start else end) + b"."
        message = message_of(loaded, archive_of(tmp_path / "bad.pth", pickled))
        assert (expected or "holds no weights") in message, (start, message)
        assert [path.name for path in tmp_path.iterdir()] == ["bad.pth"]


def test_pickles_longer_than_any_checkpoints_are_refused_at_once(loaded, tmp_path, monkeypatch):
    began = time.process_time()
    monkeypatch.setattr(pickles, "MOST_OPCODES", 100_000)
    many = PROTOCOL + b"N" * 3_000_000 + b"."
    message = message_of(loaded, archive_of(tmp_path / "long.pth", many))
    assert "is refused: its pickle, without tensors, has over 100,000 operations or 256 MB. A checkpoint may" in message
    (tmp_path / "bare.pkl").write_bytes(many)
    message = message_of(loaded, tmp_path / "bare.pkl")
    assert "is no file of torch.save: its pickle, without tensors, has over 100,000 op" in message
    monkeypatch.setattr(pickles, "MOST_OPCODES", 1_000_000)
    marks = PROTOCOL + b"N" * 100_000 + b"(t" * 100_000 + b"."  # took the square of its length
    assert "holds no weights" in message_of(loaded, archive_of(tmp_path / "marks.pth", marks))
    assert time.process_time() - began < 10
    monkeypatch.setattr(pickles, "MOST_BYTES", 1000)
    assert "is refused: its pickle" in message_of(loaded, archive_of(tmp_path / "a.pth", bytes(1001)))


def test_a_payload_beside_honest_weights_is_refused(loaded, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for call in (Calls(exec, "open('PROOF', 'w')"), Calls(Path.touch, Path("PROOF")), Calls(shutil.copy, "a", "PROOF")):
        for content in ({"state_dict": STATE, "a": [{"b": call}]}, [call, STATE], {**STATE, "7.bias": call}):
            assert "is refused: it" in message_of(loaded, content)
    assert not (tmp_path / "PROOF").exists()


def test_archives_with_odd_members_are_no_checkpoints(loaded, tmp_path):
    pickled = PROTOCOL + b"}."
    (tmp_path / "in").mkdir()
    for member in ("../data.pkl", "a/b/data.pkl", "/data.pkl", "data.pkl"):
        message = message_of(loaded, archive_of(tmp_path / "in" / "odd.pth", pickled, member))
        assert "no checkpoint" in message or "damaged" in message or "no weights" in message
        assert [path.name for path in tmp_path.rglob("*.p*")] == ["odd.pth"]


def rebuilt(size, stride="K\x01\x85", numel=b"K\x03", offset=b"K\x00"):
    """A tensor of a pickle made by hand. size: opcodes of its shape."""
    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + numel + b"tQ"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + offset + size + stride.encode("latin1") + b"\x89}tR"


def test_tensors_of_absurd_sizes_take_neither_memory_nor_time(loaded, tmp_path):
    huge = b"\x8a\x08" + struct.pack("<q", 2**61)
    for tensor in (
        rebuilt(huge + b"\x85"), rebuilt(huge + b"\x85", numel=huge), rebuilt(b"K\x03\x85", offset=huge),
        rebuilt(b"K\x03\x85", numel=b"J\xff\xff\xff\x7f"), rebuilt(b"J\xfd\xff\xff\xff\x85"),
        rebuilt(huge + b"\x85", stride="K\x00\x85"),  # one number, shown so often
    ):  # fmt: skip
        pickled = PROTOCOL + b"}" + text("0.weight") + tensor + b"s."
        path, buffer = tmp_path / "huge.pth", io.BytesIO()
        torch.save({"a": torch.ones(3)}, buffer)
        with zipfile.ZipFile(buffer) as plain, zipfile.ZipFile(path, "w") as file:
            for name in plain.namelist():
                file.writestr(name, pickled if name.endswith("data.pkl") else plain.read(name))
        message = message_of(loaded, path)
        assert "damaged or cut short" in message or "does not fit" in message


def test_containers_within_themselves_have_an_end(loaded, tmp_path):
    content = {"state_dict": STATE, "list": []}
    content["self"] = content["list"]
    content["list"] += [content, content["list"]]
    assert_holds(loaded(content).module, STATE)
    wide = [STATE]
    for _ in range(40):  # 2 ** 40 paths
        wide = [wide, wide]
    assert "holds no weights" in message_of(loaded, [wide, 1])
    deep = nn.Sequential(nn.Conv2d(3, 8, 3))
    deep.add_module("again", deep)
    torch.save(deep, tmp_path / "deep.pth")
    assert "of its network cannot be read" in message_of(loaded, tmp_path / "deep.pth")


# ------------------------------------------------------------------------------------------------ networks of all kinds


class Flattening(Tiny):
    """Flattens by view(), before its layers and in its head."""

    def forward(self, images):
        maps = self[3](self[0](images).view(len(images), -1).view(-1, 8, 16, 16))
        pooled = nn.functional.adaptive_avg_pool2d(self[4](maps), 4)
        return self[7](pooled.view(len(images), -1)[:, :16])


def test_a_network_that_flattens_by_view_works_whole(loaded):
    for layer in ("4", "0"):  # with the failure before the layer, and in the head alone
        model = loaded(STATE, build=Flattening, layer=layer)
        images = model.preprocess(np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8))
        assert images.is_contiguous() and model.memory_format == torch.contiguous_format
        assert model.module(images).shape == (2, 5)
        assert layer in model.behaviour
    assert loaded(STATE).memory_format == torch.channels_last

    class TooSmall(Tiny):  # fails alike in both
        def forward(self, images):
            self[4](self[3](self[0](images)))
            raise ValueError("images of 224 px are needed")

    assert loaded(STATE, build=TooSmall).memory_format == torch.channels_last


class Stated(nn.Conv2d):
    def get_extra_state(self):
        return {"version": 3}

    def set_extra_state(self, state):
        self.restored = state


def with_stated(place):
    def build():
        network = Tiny()
        network[place] = Stated(3, 8, 3, 2, 1) if place == 0 else Stated(8, 16, 3, 2, 1)
        return network

    return build


def test_extra_state_is_loaded_and_missed_where_it_is_needed(loaded):
    model = loaded(STATE | {"0._extra_state": {"version": 4}}, build=with_stated(0))
    assert model.module[0].restored == {"version": 4}
    assert "1 of 9 tensors are missing (0._extra_state)" in message_of(loaded, STATE, build=with_stated(0))
    assert loaded(STATE, build=with_stated(3), layer="2").unfitted == ("3._extra_state",)
    assert loaded("random", build=with_stated(0)).behaviour
    assert "left 0._extra_state" in loaded(STATE | {"0._extra_state": 3}).line


def lazy():
    return nn.Sequential(
        nn.LazyConv2d(8, 3, 2, 1), nn.LazyBatchNorm2d(), nn.ReLU(), nn.LazyConv2d(16, 3, 2, 1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LazyLinear(5),
    )  # fmt: skip


def test_lazy_layers_take_their_shapes_from_an_image_under_the_seed(loaded):
    assert_holds(loaded(STATE, build=lazy).module, STATE)
    assert_holds(loaded(STATE, build=lambda: lazy().half()).module, STATE)
    twins = [loaded("random", build=lazy, seed=seed).module[3].weight for seed in (0, 0, 1)]
    assert torch.equal(twins[0], twins[1]) and not torch.equal(twins[0], twins[2])

    def unused():
        network = Tiny()
        network[3].beside = nn.LazyLinear(3)
        return network

    message = message_of(loaded, STATE, build=unused)
    assert "the lazy layers 3.beside have no shapes after a pass over an image of 32 x 32 px: build" in message


def test_compiled_networks_are_dissected_uncompiled_and_that_is_said(loaded):
    for build, layer in (
        (lambda: torch.compile(Tiny(), backend=never), "4"),
        (lambda: torch.compile(compiled_within(), backend=never), "backbone.4"),
        (lambda: compiled_within(), "backbone.4"),
        (lambda: compiled_in_place(Tiny()), "4"),
        (lambda: compiled_in_place(compiled_within()), "backbone.4"),
    ):
        state = torch.compile(Tiny(), backend=never).state_dict() | under("_orig_mod.", STATE)
        model = loaded(state, build=build, layer=layer)
        assert "task tiny: the network is compiled, and dissected as it is without torch.compile" in model.line
        assert not any("_orig_mod" in name for name in model.module.state_dict())
        assert model.behaviour
    with pytest.raises(Exception, match="is run compiled"):
        compiled_in_place(Tiny())(torch.zeros(1, 3, 32, 32))


def never(graph, inputs):
    """A backend of torch.compile that says when it is asked for anything."""
    raise AssertionError("the network is run compiled")


def compiled_within():
    network = Wrapped()
    network.backbone = torch.compile(network.backbone, backend=never)
    return network


def compiled_in_place(network):
    network.compile(backend=never)
    return network


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_torchscript_anywhere_is_one_line(loaded):
    def within():
        network = Wrapped()
        network.backbone = torch.jit.trace(network.backbone.eval(), torch.zeros(1, 3, 32, 32))
        return network

    assert "returns a TorchScript network at backbone, whose" in message_of(loaded, STATE, build=within, layer="score")
    for make in (torch.jit.script, lambda network: torch.jit.trace(network.eval(), torch.zeros(1, 3, 32, 32))):
        message = message_of(loaded, STATE, build=lambda make=make: make(Tiny()))
        assert "task tiny: build returns a TorchScript network, whose layers cannot be watched: return" in message


def mixed():
    network = Tiny()
    network[0].bfloat16()
    return network


@pytest.mark.parametrize(
    ("build", "kinds"),
    [
        (lambda: Tiny().half(), "float16"),
        (lambda: Tiny().bfloat16(), "bfloat16"),
        (lambda: Tiny().double(), "float64"),
        (mixed, "bfloat16, float32"),
    ],
)
def test_networks_of_other_precision_are_dissected_in_float32_and_that_is_said_once(loaded, build, kinds):
    for content in (STATE, "random"):
        model = loaded(content, build=build)
        assert model.line.count(f"is built in {kinds} and dissected in float32") == 1
        assert {value.dtype for value in model.module.parameters()} == {torch.float32}
        assert model.behaviour
    assert_holds(loaded(STATE, build=build).module, STATE)
    assert "float32" not in loaded(STATE).line


def loading(*places):
    """A build function that loads weights into some layers."""

    def build():
        network = Tiny()
        for place in places:
            network[place].load_state_dict({name[2:]: STATE[name] for name in STATE if name.startswith(f"{place}.")})
        return network

    return build


def test_an_untrained_network_that_is_trained_is_refused(loaded):
    for build, names in (
        (loading(0, 1, 3, 7), "0.weight, 3.weight are"),
        (loading(3), "3.weight are"),
        (numpy_drawn, "0.weight are"),
    ):
        message = message_of(loaded, "random", build=build)
        assert f"is no untrained network: {names} the same under two seeds, which must differ. build loads w" in message
        assert "register fixed filters as buffers" in message
    loaded("random", build=loading(7))  # behind the layers
    loaded("random", build=loading(3), layer="2")
    assert_holds(loaded(STATE, build=loading(0)).module, STATE)


def numpy_drawn():
    network = Tiny()
    network[0].weight = nn.Parameter(torch.from_numpy(np.random.default_rng(0).normal(size=(8, 3, 3, 3))).float())
    return network


def test_fixed_filters_and_constant_weights_are_no_trained_ones(loaded):
    class Filtered(Tiny):
        def __init__(self):
            super().__init__()
            nn.init.zeros_(self[3].weight)
            self.register_buffer("filters", torch.eye(3)[:, :, None, None])

        def forward(self, images):
            return super().forward(nn.functional.conv2d(images, self.filters))

    assert loaded("random", build=Filtered).weights == loaded("random", build=Filtered).weights


# ------------------------------------------------------------------------------------------------------- the real cases


def case(cases, folder, task, layer="layer2", weights="random", **settings):
    return load_model(
        task, [layer], weights=weights if weights == "random" else str(cases / folder / weights),
        loader_folder=cases / folder, **settings,
    )  # fmt: skip


def test_the_files_that_users_brought(cases, caplog):
    caplog.set_level("INFO")
    folder = "checkpoint-prefixes-and-keys"
    plain = case(cases, folder, "tiny", weights="a_plain.pth").module.state_dict()
    names = [path.name for path in (cases / folder).iterdir() if path.suffix in (".pth", ".ckpt")]
    assert len(names) == 12
    for name in names:
        model = case(cases, folder, "tiny", weights=name)
        assert_holds(model.module, plain)
        assert model.weights.averaged == (name in ("averaged_model.pth", "under_state_dict_ema.pth"))
    assert_holds(case(cases, "safetensors", "tiny", weights="model.safetensors").module, plain)
    folder = "ema-weights-passed-over"
    assert_holds(case(cases, folder, "tiny", weights="both.pth").module, plain)
    assert "CHECKPOINT_KEY=state_dict_ema" in caplog.text
    averaged = case(cases, folder, "tiny", weights="both.pth", checkpoint_key="state_dict_ema").module[0].weight
    assert torch.equal(averaged, plain["0.weight"] + 0.5)


def test_the_networks_that_users_brought(cases, caplog):
    caplog.set_level("INFO")
    assert case(cases, "tracebacks", "extrastate").behaviour and case(cases, "tracebacks", "lazy").behaviour
    assert "returns a TorchScript network" in message_of(case, cases, "tracebacks", "scripted")
    assert case(cases, "network-built-in-half-precision", "halfnet").behaviour
    assert "is built in float16 and dissected in float32" in caplog.text
    assert "two seeds" in message_of(case, cases, "random-twin-that-is-trained", "trained")
    assert case(cases, "random-twin-that-is-trained", "trained", weights="w.pth").unfitted == ()


@pytest.mark.parametrize("task", ["facenet", "fairface", "gender", "smile"])
def test_every_loader_with_classes_takes_ones_own_number_or_none(tmp_path, task):
    network = models.model_spec(task).build(num_classes=7)
    # Without what is large and lies behind the layers.
    state = {name: value.half() for name, value in network.state_dict().items() if value.numel() < 5e6}
    head = {"facenet": "logits.", "fairface": "model.classifier.", "gender": "fc.", "smile": "fc."}[task]
    path = tmp_path / "seven.pth"
    torch.save(state, path)
    own = load_model(task, ["layer2"], weights=str(path))
    assert all(
        f"{head}{name}" in " ".join(own.unfitted) for name in ("weight", "bias") if task not in ("gender", "smile")
    )
    assert any(name.startswith(head) for name in own.unfitted)
    seven = load_model(task, ["layer2"], weights=str(path), num_classes=7)
    assert not any(name.startswith(head) for name in seven.unfitted)
    torch.save({name: value for name, value in state.items() if not name.startswith(head)}, path)
    assert any(name.startswith(head) for name in load_model(task, ["layer2"], weights=str(path)).unfitted)


def test_the_key_is_a_setting_that_decides():
    model = load_model("onet", ["layer1"])
    config = types.SimpleNamespace(**vars(settings))
    assert used_settings(config, model)["CHECKPOINT_KEY"] == [None]
    assert settings.NUM_CLASSES is None
