"""Networks, checkpoints, recorder and devices: the published files load key by key, and nothing fails in silence."""

import importlib
import json
import sys
from collections import OrderedDict
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.error import URLError

import facenet_pytorch
import numpy as np
import pytest
import torch
import torchvision
from facenet_pytorch.models import inception_resnet_v1
from torch import nn
from torch.nn import functional

from loader.behaviour import observe
from loader.crops import Crop
from loader.devices import choose_device, describe_device
from loader.models import ModelSpec, load_model, model_spec
from loader.recorder import ActivationRecorder
from loader.tasks import LOADER_FOLDER, available_tasks
from store.layer import differences
from tests.conftest import LENET
from util.errors import DissectionError

pytestmark = pytest.mark.usefixtures("checkpoints_go_at_once")

FOUR = ["layer1", "layer2", "layer3", "layer4"]


@contextmanager
def saved(content, name, **options):
    """A folder that holds content as torch.save writes it; it goes at once, because some files are large."""
    with TemporaryDirectory() as folder:
        torch.save(content, Path(folder) / name, **options)
        yield Path(folder)


def message_of(call, *arguments, **settings):
    with pytest.raises(DissectionError) as caught:
        call(*arguments, **settings)
    return str(caught.value)


def photographs(side, count=2):
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


# ------------------------------------------------------------------- the six published tasks, built independently here


def set_dense_head(network, last):
    # 32768 x 2048 weights are 268 MB; one column repeated keeps the file small, and loads like any other.
    wide = torch.nn.utils.skip_init(nn.Linear, 32768, 2048, device="cpu")
    wide.weight = nn.Parameter(torch.linspace(-1, 1, 2048)[:, None].expand(2048, 32768))
    nn.init.zeros_(wide.bias)
    network.avgpool = nn.Sequential(
        nn.Flatten(), wide, nn.ReLU(), nn.Linear(2048, 512), nn.ReLU(), nn.Linear(512, 64), nn.ReLU()
    )
    network.fc = last
    return network


def build_age():
    return set_dense_head(torchvision.models.resnet50(), nn.Linear(64, 1))


def build_gender():
    return set_dense_head(torchvision.models.resnet50(), nn.Sequential(nn.Linear(64, 2)))


def build_smile():
    network = torchvision.models.resnet50()
    network.fc = nn.Sequential(nn.Linear(2048, 2))
    return network


class BeautyTwin(nn.Module):
    """torchvision's ResNet-18 under the names of the beauty checkpoint."""

    def __init__(self):
        super().__init__()
        plain = torchvision.models.resnet18(num_classes=1)
        self.group1 = nn.Sequential(
            OrderedDict(conv1=plain.conv1, bn1=plain.bn1, relu1=plain.relu, maxpool=plain.maxpool)
        )
        for name in FOUR:
            setattr(self, name, nn.Sequential(*[self.renamed(block) for block in getattr(plain, name)]))
        self.avgpool = nn.Sequential(nn.AvgPool2d(7))
        self.group2 = nn.Sequential(OrderedDict(fullyconnected=plain.fc))

    @staticmethod
    def renamed(block):
        twin = nn.Module()
        twin.group1 = nn.Sequential(
            OrderedDict(conv1=block.conv1, bn1=block.bn1, relu1=nn.ReLU(), conv2=block.conv2, bn2=block.bn2)
        )
        twin.relu = nn.Sequential(nn.ReLU())
        if block.downsample is not None:
            twin.downsample = block.downsample
        return twin

    def forward(self, x):
        x = self.group1(x)
        for name in FOUR:
            for block in getattr(self, name):
                shortcut = block.downsample(x) if hasattr(block, "downsample") else x
                x = block.relu(block.group1(x) + shortcut)
        return self.group2(self.avgpool(x)[:, :, 0, 0])


def build_facenet():
    return facenet_pytorch.InceptionResnetV1(classify=True, num_classes=8631)


class FairfaceTwin(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = torchvision.models.resnet50()
        self.cnn = nn.Sequential(*list(self.model.children())[:8])
        self.model.fc = nn.Sequential(nn.Flatten(), nn.Linear(32768, 128))
        self.model.classifier = nn.Linear(128, 4294)

    def forward(self, x):
        x = self.model.fc(self.cnn(x))
        return 10 * x / x.norm(dim=1, keepdim=True)


# task: twin, checkpoint, wrapped in {'state_dict'}, side, mean and std in 0..255, module paths, units and map sides
PUBLISHED = {
    "age": (
        build_age, "age_3_val_loss_6.6400.pth", False, 128, (0, 255),
        ("layer1.2.conv1", "layer2.3.conv1", "layer3.2.conv1", "layer4.2.conv1"),
        ((64, 32), (128, 16), (256, 8), (512, 4)),
    ),
    "gender": (
        build_gender, "gender_1_val_acc_0.9082.pth", False, 128, (0, 255),
        ("layer1.2.conv1", "layer2.2.conv1", "layer3.2.conv1", "layer4.2.conv1"),
        ((64, 32), (128, 16), (256, 8), (512, 4)),
    ),
    "beauty": (
        BeautyTwin, "resnet18.pth", True, 224, (0, 255),
        tuple(f"layer{n}.1.group1.conv2" for n in (1, 2, 3, 4)),
        ((64, 56), (128, 28), (256, 14), (512, 7)),
    ),
    "facenet": (
        build_facenet, "20180402-114759-vggface2.pt", False, 224, (127.5, 128),
        ("conv2d_4b", "repeat_1.4.branch2.2", "repeat_2.9.branch1.2", "block8.branch1"),
        ((256, 25), (32, 25), (128, 12), (192, 5)),
    ),
    "fairface": (
        FairfaceTwin, "best_state_43.pth", True, 112, (0, 255),
        tuple(f"model.layer{n}.2.conv1" for n in (1, 2, 3, 4)),
        ((64, 28), (128, 14), (256, 7), (512, 4)),
    ),
    "smile": (
        build_smile, "smile_nonsmile_0.912.pth", False, 200, (0, 255),
        tuple(f"layer{n}.2.conv1" for n in (1, 2, 3, 4)),
        ((64, 50), (128, 25), (256, 13), (512, 7)),
    ),
}  # fmt: skip


def trained_looking(network):
    """Give batch normalisation other statistics than a new network has, so that losing them would show."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            module.num_batches_tracked.fill_(7)
    return network.eval()


def outputs_of(network, paths, images):
    """The outputs at some module paths, in a plain forward pass."""
    outputs = {}
    modules = dict(network.named_modules(remove_duplicate=False))
    for path in paths:
        modules[path].register_forward_hook(lambda _m, _i, output, path=path: outputs.update({path: output.clone()}))
    with torch.no_grad():
        final = network(images)
    return [outputs[path] for path in paths], final


@pytest.mark.parametrize("task", PUBLISHED)
def test_published_checkpoint_loads_with_every_key_and_gives_the_same_activations(task):
    build, name, wrapped, side, (mean, std), paths, sizes = PUBLISHED[task]
    torch.manual_seed(5)
    twin = trained_looking(build())
    state = twin.state_dict()
    with saved({"state_dict": state, "epoch": 43} if wrapped else state, name) as folder:
        model = load_model(task, FOUR, model_folder=folder)
        assert model.weights_label == str(folder / name)

    assert (model.spec.side_px, model.spec.crop) == (side, Crop("box") if task in ("facenet", "fairface") else None)
    assert model.layers == dict(zip(FOUR, paths, strict=True))
    loaded = model.module.state_dict()
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[key], state[key]) for key in state)
    assert not model.module.training and not any(weight.requires_grad for weight in model.module.parameters())

    images = photographs(side)
    expected = torch.from_numpy((images.astype(np.float64) - mean) / std).float().permute(0, 3, 1, 2).contiguous()
    assert torch.allclose(model.preprocess(images), expected, rtol=1e-7, atol=0)
    references, final = outputs_of(twin, paths, expected)
    with ActivationRecorder(model.module, model.layers) as recorder:
        for maps in (recorder.run(model.preprocess(images)), recorder.run(model.preprocess(images))):
            assert list(maps) == FOUR
            for (units, map_side), reference, layer in zip(sizes, references, FOUR, strict=True):
                assert maps[layer].shape == (2, units, map_side, map_side)
                assert (maps[layer] - reference).abs().max() <= 1e-4 * reference.abs().max()
    result = model.module(model.preprocess(images))
    assert (result - final).abs().max() <= 1e-3 * final.abs().max()


def test_fairface_embedding_has_length_ten_and_shared_modules_have_both_names():
    model = load_model("fairface", ["cnn.4.2.conv1"], weights="random")
    length = model.module(model.preprocess(photographs(112))).norm(dim=1)
    assert torch.allclose(length, torch.tensor(10.0))
    assert model.module.cnn[0].weight is model.module.model.conv1.weight


def test_facenet_uses_the_librarys_own_download_and_a_failed_one_names_the_file(tmp_path, monkeypatch):
    def offline(url, path):
        raise URLError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(inception_resnet_v1, "download_url_to_file", offline)
    message = message_of(load_model, "facenet", FOUR, model_folder=tmp_path)
    assert "could not be fetched" in message and "no route to host" in message
    assert f"put it at {tmp_path / '20180402-114759-vggface2.pt'}" in message

    twin = build_facenet()
    monkeypatch.setattr(inception_resnet_v1, "download_url_to_file", lambda url, path: torch.save(state, path))
    state = twin.state_dict()
    model = load_model("facenet", FOUR, model_folder=tmp_path)
    assert model.weights_label == "from the releases of facenet-pytorch"
    assert torch.equal(model.module.conv2d_4b.conv.weight, twin.conv2d_4b.conv.weight)


# ---------------------------------------------------------------------------------------- networks inside the packages

MTCNN_SIZES = {
    "onet": ((32, 126), (64, 61), (64, 28), (128, 13)),
    "rnet": ((28, 126), (48, 61), (64, 29)),
    "pnet": ((10, 126), (16, 61), (32, 59)),
}


@pytest.mark.parametrize("task", MTCNN_SIZES)
def test_mtcnn_trunk_runs_on_whole_photographs_with_the_packages_weights(task, tmp_path):
    names = FOUR[: len(MTCNN_SIZES[task])]
    model = load_model(task, names, model_folder=tmp_path)
    assert model.weights_label == "from the facenet-pytorch package"
    images = model.preprocess(photographs(128, 3))
    with ActivationRecorder(model.module, model.layers) as recorder:
        maps = recorder.run(images)
        assert all(torch.equal(again, maps[name]) for name, again in recorder.run(images).items())
    assert [tuple(maps[name].shape) for name in names] == [(3, units, side, side) for units, side in MTCNN_SIZES[task]]

    library = {"onet": "ONet", "rnet": "RNet", "pnet": "PNet"}[task]
    network = getattr(facenet_pytorch.models.mtcnn, library)()
    x, reference = (torch.from_numpy(photographs(128, 3)).permute(0, 3, 1, 2).float() - 127.5) / 128, None
    with torch.no_grad():
        for child, module in network.named_children():
            x = module(x)
            if child == f"prelu{len(names)}":
                reference = x
                break
    assert torch.allclose(maps[names[-1]], reference, rtol=1e-4, atol=1e-4)


def identity(model):
    """What tells whether two loaded networks are the same, layer by layer."""
    return {layer: (model.behaviour[layer].tensors, model.behaviour[layer].outputs) for layer in model.layers}


def test_mtcnn_checkpoint_given_as_weights_loads_whole_and_has_the_packages_digest(tmp_path):
    file = Path(facenet_pytorch.__file__).parent / "data" / "onet.pt"
    given, own = load_model("onet", FOUR, weights=str(file)), load_model("onet", FOUR)
    assert given.weights_label == str(file)
    assert identity(given) == identity(own) != identity(load_model("onet", FOUR, weights="random"))


def test_preprocess_is_exact_for_every_pixel_value():
    facenet = load_model("onet", ["layer1"])
    levels = np.arange(256, dtype=np.uint8)
    images = np.stack([levels, levels[::-1], np.roll(levels, 9)], axis=-1).reshape(1, 16, 16, 3)
    result = facenet.preprocess(images)
    exact = ((images.astype(np.float64) - 127.5) / 128).astype(np.float32)
    assert np.array_equal(result.permute(0, 2, 3, 1).numpy(), exact)
    assert result.dtype == torch.float32 and result.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(result, facenet.preprocess(torch.from_numpy(images)))
    with pytest.raises(ValueError, match="uint8"):
        facenet.preprocess(images / 255)


def test_preprocess_takes_mean_and_std_of_each_channel():
    model = load_model("torchvision", ["conv1"], weights="random", architecture="resnet18")
    images = np.full((1, 4, 4, 3), 255, np.uint8)
    expected = [(1 - mean) / std for mean, std in zip((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)]
    assert torch.allclose(model.preprocess(images)[0, :, 2, 1], torch.tensor(expected), rtol=1e-6)


# ------------------------------------------------------------------------------------------------ torchvision networks


def torchvision_model(weights, **settings):
    settings = {"architecture": "resnet18", "num_classes": 2} | settings
    return load_model("torchvision", ["layer1", "layer4"], weights=weights, **settings)


def test_torchvision_takes_state_dicts_wrapped_dicts_and_whole_networks(tmp_path):
    network = trained_looking(torchvision.models.resnet18(num_classes=2))
    network.register_buffer("scratch", torch.zeros(3), persistent=False)  # no part of a state dict
    parallel = {f"module.{name}": value for name, value in network.state_dict().items()}
    optimizer = torch.optim.SGD(network.parameters()).state_dict()
    forms = {
        "state": network.state_dict(),
        "wrapped": {"model_state_dict": network.state_dict(), "optimizer": optimizer},
        "model": {"model": network.state_dict(), "best": np.float64(0.9), "epoch": 3},
        "parallel": {"state_dict": parallel},
        "whole": network,
        "whole parallel": nn.DataParallel(network),
        "half": {name: value.half() if value.is_floating_point() else value for name, value in parallel.items()},
        "double": {name: value.double() for name, value in parallel.items()},
        "legacy": None,
    }
    digests = {}
    for form, content in forms.items():
        path = tmp_path / f"{form}.pth"
        legacy = content is None
        torch.save(network.state_dict() if legacy else content, path, _use_new_zipfile_serialization=not legacy)
        model = torchvision_model(str(path))
        digests[form] = identity(model)
        difference = model.module.layer4[1].conv2.weight - network.layer4[1].conv2.weight
        assert difference.abs().max() <= (1e-3 if form == "half" else 0), form
    assert all(digest == digests["state"] for form, digest in digests.items() if form != "half")
    assert digests["half"] != digests["state"]


@pytest.mark.parametrize("architecture", ["mobilenet_v3_small", "densenet121", "mnasnet0_5", "swin_t"])
def test_torchvision_network_with_version_metadata_and_odd_classes_loads(tmp_path, architecture):
    network = trained_looking(torchvision.models.get_model(architecture, num_classes=2))
    path = [name for name, module in network.named_modules() if isinstance(module, nn.Conv2d)][1:2] or ["features"]
    settings = {"architecture": architecture, "num_classes": 2}
    torch.save(nn.DataParallel(network).state_dict(), tmp_path / "state.pth")
    loaded = load_model("torchvision", path, weights=str(tmp_path / "state.pth"), **settings).module.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in network.state_dict().items())
    if architecture != "mnasnet0_5":  # its own conversion of old files needs the metadata, which a whole network lacks
        torch.save(network, tmp_path / "whole.pth")
        whole = load_model("torchvision", path, weights=str(tmp_path / "whole.pth"), **settings).module.state_dict()
        assert all(torch.equal(whole[name], value) for name, value in loaded.items())


@pytest.mark.parametrize("architecture", ["googlenet", "inception_v3"])
def test_torchvision_side_branches_may_be_in_the_checkpoint_or_not(tmp_path, architecture):
    for aux_logits in (True, False):
        network = torchvision.models.get_model(architecture, init_weights=False, aux_logits=aux_logits)
        torch.save(network.state_dict(), tmp_path / "state.pth")
        settings = {"architecture": architecture, "weights": str(tmp_path / "state.pth")}
        model = load_model("torchvision", ["fc"], **settings)
        assert torch.equal(model.module.fc.weight, network.fc.weight)
        assert not any(name.startswith(("aux", "Aux")) for name in model.module.state_dict())
        assert model.module.transform_input


def test_torchvision_errors_say_what_to_set(tmp_path, caplog):
    caplog.set_level("INFO")
    assert "set WEIGHTS to the path" in message_of(torchvision_model, None)
    assert "set ARCHITECTURE" in message_of(torchvision_model, "random", architecture=None)
    assert "did you mean resnet50" in message_of(torchvision_model, "random", architecture="resnet5O")
    for other_kind in ("fasterrcnn_resnet50_fpn", "deeplabv3_resnet50"):
        assert f"not '{other_kind}'" in message_of(torchvision_model, "random", architecture=other_kind)
    assert "NUM_CLASSES must be" in message_of(torchvision_model, "random", num_classes=0)
    torch.save(torchvision.models.resnet18(num_classes=7).state_dict(), tmp_path / "seven.pth")
    assert torchvision_model(str(tmp_path / "seven.pth")).unfitted == ("fc.weight", "fc.bias")
    assert "7 classes, set NUM_CLASSES=7" in caplog.text
    message = message_of(torchvision_model, str(tmp_path / "seven.pth"), architecture="resnet34")
    assert "resnet34" in message and "tensors are missing (layer1.2.conv1.weight, " in message
    assert "NUM_CLASSES=" not in message_of(torchvision_model, str(tmp_path / "seven.pth"), architecture="resnet50")


# ------------------------------------------------------------------------------------------------------- untrained twin


def test_random_twin_follows_its_seed_and_leaves_the_global_state_alone(lenet):
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    models = [lenet(weights="random", seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(torch.rand(3), expected)
    assert identity(models[0]) == identity(models[1]) != identity(models[2])
    assert torch.equal(models[0].module.conv1.weight, models[1].module.conv1.weight)
    assert not torch.equal(models[0].module.conv1.weight, models[2].module.conv1.weight)
    assert models[2].weights_label == "random, seed 1"


def test_package_weights_leave_the_global_state_alone():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    load_model("onet", ["layer1"])
    assert torch.equal(torch.rand(3), expected)


# ------------------------------------------------------------------------------------------------------ users' loaders


def test_every_loader_file_beside_models_is_a_task():
    tasks = available_tasks()
    assert tasks == sorted(path.stem[len("model_loader_") :] for path in LOADER_FOLDER.glob("model_loader_*.py"))
    published = {"age", "gender", "beauty", "facenet", "fairface", "smile", "onet", "rnet", "pnet", "torchvision"}
    assert published <= set(tasks)
    for task in published:
        assert isinstance(model_spec(task), ModelSpec)


def test_dropped_in_loader_is_a_task_like_any_other(lenet):
    assert available_tasks(lenet.folder) == ["lenet"]
    network = lenet(weights="random", seed=3).module
    torch.save(network.state_dict(), lenet.folder / "lenet.pth")
    model = lenet(["conv2", "first"])
    assert model.layers == {"conv2": "conv2", "first": "conv1"}
    with ActivationRecorder(model.module, model.layers) as recorder:
        maps = recorder.run(model.preprocess(photographs(32)))
    assert {name: tuple(value.shape) for name, value in maps.items()} == {
        "conv2": (2, 16, 10, 10),
        "first": (2, 6, 28, 28),
    }
    assert lenet(weights="random", num_classes=3).module.fc.out_features == 3
    file = lenet.folder / "model_loader_lenet.py"
    file.write_text(file.read_text() + "# changed\n")
    assert identity(lenet(["first"])) != identity(model)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x = = 1\n", "model_loader_bad.py, line 1: SyntaxError: invalid syntax"),
        ("\nimport no_such_package\n", "model_loader_bad.py, line 2: ModuleNotFoundError: No module named 'no_such_pa"),
        ("x = 1\n", "model_loader_bad.py has no MODEL: it must define MODEL = ModelSpec(...)"),
        ("MODEL = {}\n", "model_loader_bad.py has MODEL of type dict"),
        (LENET.replace("side_px=32", "side_px='32'"), "ModelSpec: side_px must be a whole number of pixels above 0"),
        (LENET.replace("side_px=32,", ""), "TypeError: ModelSpec.__init__() missing 1 required positional argument"),
        (LENET.replace("build=LeNet", "build=None"), "ModelSpec: build must be a function"),
        (LENET.replace('{"first": "conv1"}', '["conv1"]'), "ModelSpec: layers must be a dict"),
        (LENET.replace('("num_classes",)', '("num_classes")'), "ModelSpec: options must be a tuple with names of"),
        (LENET.replace('("num_classes",)', '("classes",)'), "ModelSpec: options must be a tuple with names of"),
        (LENET.replace('source="a friend"', "std=0"), "ModelSpec: std must be above 0, one or for each of R, G, B"),
        (LENET.replace('source="a friend"', "mean=(0.5, 0.5)"), "ModelSpec: mean must be a number, or one for"),
        (LENET.replace('source="a friend"', "mean=float('nan')"), "ModelSpec: mean must be a number, or one for"),
        (LENET.replace('source="a friend"', "crop=1"), "ModelSpec: crop must be a loader.crops.Crop, None,"),
        (LENET.replace('source="a friend"', "pretrained={}"), "ModelSpec: pretrained must be a function"),
        (LENET.replace('network="LeNet"', 'network="two\\nlines"'), "ModelSpec: network must be one line"),
        (LENET.replace("self.conv1 =", "self.conv1 = None.size #"), "build failed with AttributeError: 'NoneType'"),
        (LENET.replace("build=LeNet", "build=lambda: 3"), "build must return an nn.Module, not int"),
        (LENET.replace('"first": "conv1"', '"first": "conv7"'), "no layer 'first' at 'conv7', where its loader file"),
    ],
)
def test_faulty_loader_file_is_named_with_the_reason(lenet, text, expected):
    (lenet.folder / "model_loader_bad.py").write_text(text)
    assert expected in message_of(lenet, task="bad", weights="random")


def test_unknown_task_lists_the_nearest_and_all(lenet):
    message = message_of(load_model, "agee", FOUR)
    assert "unknown task 'agee': did you mean age" in message
    assert "The tasks are age, beauty, convnet, dlib_age, dlib_gender, facenet, fairface, gender, onet" in message
    assert "unknown task '../models'" in message_of(load_model, "../models", FOUR)


def test_layer_errors_list_what_is_valid(lenet):
    message = message_of(load_model, "onet", ["layer5"])
    assert "task onet has no layer 'layer5': did you mean layer" in message
    assert "The layers of onet are layer1, layer2, layer3, layer4" in message
    message = message_of(torchvision_model, "random", architecture="alexnet")
    assert "dotted module paths, such as features.0, features.8, features.10" in message
    message = message_of(lenet, ["convl"], weights="random")
    assert "did you mean conv2 or conv1? The layers of lenet are first; any dotted module path works too" in message
    assert "at least one" in message_of(lenet, [], weights="random")
    assert "first is named more than once" in message_of(lenet, ["first", "conv2", "first"], weights="random")
    assert "LAYER_NAME must be a list" in message_of(load_model, "onet", "layer1")
    assert "takes no ARCHITECTURE" in message_of(lenet, weights="random", architecture="resnet18")


# ------------------------------------------------------------------------------------------------------------ recorder


class Residual(nn.Module):
    """What recorders trip over: in-place operations, a shared ReLU, a module never used, heads of one input size."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.middle = nn.Conv2d(4, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.pair = nn.LSTM(4, 4, batch_first=True)
        self.late = nn.Conv2d(4, 2, 1)
        self.unused = nn.Conv2d(4, 4, 1)
        self.head = nn.Linear(2 * 8 * 8, 5)
        self.late_calls = 0
        self.late.register_forward_pre_hook(self.count)

    def count(self, *_):
        self.late_calls += 1

    def forward(self, x):
        stem = self.stem(x)
        identity = stem * 2
        stem.mul_(0)
        out = self.middle(self.relu(identity.clone()))
        out += identity
        out = self.relu(out)
        self.pair(out[:, :, 0].transpose(1, 2))
        return self.head(self.late(self.relu(out)).flatten(1))


def test_maps_are_copies_that_later_operations_do_not_alter():
    torch.manual_seed(0)
    network, images = Residual().eval(), torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        stem = network.stem(images)
        middle = network.middle((2 * stem).relu())
    with ActivationRecorder(network, {"middle": "middle", "stem": "stem"}) as recorder:
        for maps in (recorder.run(images), recorder.run(images)):
            assert list(maps) == ["middle", "stem"]
            assert torch.equal(maps["stem"], stem) and torch.equal(maps["middle"], middle)
            assert all(value.dtype == torch.float32 and value.is_contiguous() for value in maps.values())
            maps["stem"] += 1  # may be changed in place by whoever gets it


def test_pass_stops_behind_the_last_wanted_layer_after_the_probe():
    network = Residual().eval()
    with ActivationRecorder(network, {"middle": "middle"}) as recorder:
        recorder.run(torch.zeros(1, 3, 8, 8))
        assert network.late_calls == 1
        recorder.run(torch.zeros(1, 3, 8, 8))
        recorder.run(torch.zeros(3, 3, 9, 9))
        assert network.late_calls == 1
    network(torch.zeros(1, 3, 8, 8))
    assert network.late_calls == 2


def test_head_that_refuses_the_input_size_does_no_harm():
    with ActivationRecorder(Residual().eval(), {"late": "late"}) as recorder:
        for _ in range(2):
            assert recorder.run(torch.zeros(1, 3, 12, 10))["late"].shape == (1, 2, 12, 10)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("unused", "layer 'x' (unused) is never reached in a forward pass"),
        ("relu", "runs 3 times in one forward pass, so its maps are ambiguous: choose a module that runs once, such"),
        ("head", "layer 'x' (head) gives a tensor of shape (2, 5), not activation maps"),
        ("pair", "layer 'x' (pair) gives a tuple, not one tensor"),
        ("nowhere", "layer 'x': the network has no module 'nowhere'"),
    ],
)
def test_layers_that_give_no_maps_are_explained_and_no_hook_stays(path, expected):
    network = Residual().eval()

    def run():
        with ActivationRecorder(network, {"stem": "stem", "x": path}) as recorder:
            recorder.run(torch.zeros(2, 3, 8, 8))

    assert expected in message_of(run)
    assert not any(module._forward_hooks for module in network.modules())


def test_shared_relu_of_torchvision_names_siblings_that_run_once():
    network = torchvision.models.resnet50().eval()
    with ActivationRecorder(network, {"layer1": "layer1.0.relu"}) as recorder:
        message = message_of(recorder.run, torch.zeros(1, 3, 64, 64))
    assert "runs 3 times" in message and "such as layer1.0.conv1, layer1.0.bn1, layer1.0.conv2" in message


def test_input_that_fails_before_the_layer_is_explained():
    model = load_model("onet", ["layer1", "layer4"])
    for probed in (False, True):
        with ActivationRecorder(model.module, model.layers) as recorder:
            if probed:
                recorder.run(torch.zeros(1, 3, 128, 128))
            message = message_of(recorder.run, torch.zeros(1, 3, 8, 8))
        assert "layer 'layer4' (prelu4) cannot be computed for images of 8 x 8 px: the network fails before" in message
        assert "Kernel size" in message or "too small" in message or "output" in message


def test_hooks_go_when_the_caller_fails_and_outside_the_block_nothing_runs():
    network = Residual().eval()
    with pytest.raises(KeyError), ActivationRecorder(network, {"stem": "stem"}):
        raise KeyError
    assert not any(module._forward_hooks for module in network.modules())
    with pytest.raises(ValueError, match="within its `with` block"):
        ActivationRecorder(network, {"stem": "stem"}).run(torch.zeros(1, 3, 8, 8))


def test_half_precision_becomes_float32_and_a_lost_batch_is_noticed():
    half = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU()).to(torch.bfloat16)
    with ActivationRecorder(half, {"maps": "1"}) as recorder:
        assert recorder.run(torch.ones(2, 3, 4, 4, dtype=torch.bfloat16))["maps"].dtype == torch.float32
    folded = nn.Sequential(nn.Unflatten(0, (1, -1)), nn.Flatten(1, 2), nn.Conv2d(6, 4, 1))
    with ActivationRecorder(folded, {"maps": "2"}) as recorder:
        assert "gives 1 maps for 2 images" in message_of(recorder.run, torch.ones(2, 3, 4, 4))


def test_networks_own_exception_handling_does_not_swallow_the_early_stop():
    class Careful(Residual):
        def forward(self, x):
            try:
                return super().forward(x)
            except Exception:
                return self.late(torch.zeros(1, 4, 8, 8))

    network = Careful().eval()
    with ActivationRecorder(network, {"stem": "stem"}) as recorder:
        recorder.run(torch.zeros(1, 3, 8, 8))
        recorder.run(torch.zeros(1, 3, 8, 8))
    assert network.late_calls == 1


# ------------------------------------------------------------------------------------------------------------- devices


def test_device_names(monkeypatch):
    assert choose_device("cpu") == torch.device("cpu")
    assert describe_device(torch.device("cpu")).startswith(f"cpu ({torch.get_num_threads()} thread")
    assert "unknown device 'gpu'" in message_of(choose_device, "gpu")
    assert "unknown device 'cuda:x'" in message_of(choose_device, "cuda:x")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device("auto") == torch.device("cpu")
    assert "no CUDA device that torch can use; set DEVICE='auto' or 'cpu'" in message_of(choose_device, "cuda")
    assert "no MPS device" in message_of(choose_device, "mps")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device("auto") == torch.device("mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("auto") == torch.device("cuda", 0)
    assert choose_device("CUDA:1") == torch.device("cuda", 1)
    assert "no CUDA device 2 (there are 2, counted from 0)" in message_of(choose_device, "cuda:2")


def test_chosen_device_is_repeatable():
    torch.backends.cudnn.benchmark = True
    choose_device("cpu")
    assert not torch.backends.cudnn.benchmark and torch.backends.cudnn.deterministic
    assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_gives_the_maps_of_the_cpu():
    device = choose_device("cuda")
    assert describe_device(device).startswith("cuda:0 (")
    maps = {}
    for place in ("cpu", device):
        model = load_model("onet", FOUR, device=place)
        with ActivationRecorder(model.module, model.layers) as recorder:
            maps[str(place)] = recorder.run(model.preprocess(photographs(128)))
    for name in FOUR:
        assert torch.allclose(maps["cpu"][name], maps["cuda:0"][name], rtol=1e-3, atol=1e-3)


# ------------------------------------------------------------------------------------- the code in the fingerprint


OWN_NETWORK = """
import torch

class Own(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 2, 1)

        self.out = torch.nn.Identity()

    def forward(self, x):
        return self.out(helped(self.stem(x)))

def helped(x):
    return x * FACTOR
"""

OWN_LOADER = """
import numpy as np
from loader.models import ModelSpec
from own_network_of_the_test import Own

MODEL = ModelSpec(network="own", build=Own, layers={"layer1": "out"}, side_px=8, mean=np.float32(0.5))
"""


def test_what_a_network_computes_decides_and_not_the_text_of_its_code(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    found = []
    for factor, comment in (("1", ""), ("2", ""), ("1", "# a comment")):
        (tmp_path / "model_loader_own.py").write_text(OWN_LOADER + comment)
        (tmp_path / "own_network_of_the_test.py").write_text(comment + OWN_NETWORK.replace("FACTOR", factor))
        sys.modules.pop("own_network_of_the_test", None)
        importlib.invalidate_caches()
        model = load_model("own", ["layer1"], weights="random", loader_folder=tmp_path)
        found.append(model.provenance("layer1"))
        assert json.dumps(found[-1])  # also with a mean that is a NumPy number
    sys.modules.pop("own_network_of_the_test", None)
    assert differences(found[0], found[1]) == ["behaviour"]
    assert found[0] == found[2]


def test_the_fingerprint_has_the_tensors_up_to_the_layer_and_no_further():
    def provenance(change):
        model = load_model("onet", ["layer2"], weights="random")
        with torch.no_grad():
            change(model.module)
        return model.provenance("layer2")

    plain = provenance(lambda module: None)
    assert provenance(lambda module: module.conv3.weight.add_(1)) == plain  # behind the layer
    assert differences(plain, provenance(lambda module: module.conv1.weight.mul_(1.1))) == ["behaviour", "weights"]
    assert differences(plain, provenance(lambda module: module.conv2.bias[3].add_(1))) == ["behaviour", "weights"]
    rounded = {**plain, "behaviour": [[a * (1 + 1e-7), size] for a, size in plain["behaviour"]]}
    assert differences(plain, rounded) == []
    assert set(plain["packages"]) == {"facenet_pytorch", "torch"}


def test_small_activations_and_single_units_are_not_lost_among_large_ones():
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 3, 32, 32))) / 255

    def outputs(factors, function=torch.relu):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Identity()).eval()
        network[1].forward = lambda x: function(x) * torch.tensor(factors)[:, None, None]
        return {"behaviour": observe(network, {"x": "1"}, {}, lambda _: images.float(), (32, 32))["x"].outputs}

    tiny = [1e-6] * 4
    assert differences(outputs(tiny), outputs(tiny)) == []
    assert differences(outputs(tiny), outputs(tiny, torch.sigmoid)) == ["behaviour"]
    assert differences(outputs([1e9, 1.0, 1.0, 1e-9]), outputs([1e9, 1.0, 1.0, 1.01e-9])) == ["behaviour"]
    assert differences(outputs([0.0] * 4), outputs([0.0, 0.0, 0.0, 1e-12])) == ["behaviour"]


class Attending(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x):
        tokens = x.flatten(2).transpose(1, 2)
        return self.attention(tokens, tokens, tokens)[0].transpose(1, 2).reshape(x.shape)


def test_tensors_that_are_used_without_a_call_count():
    network = nn.Sequential(nn.Conv2d(3, 4, 3, 4), Attending(), nn.ReLU(), nn.Conv2d(4, 4, 1)).eval()

    def tensors():
        return observe(network, {"x": "2"}, {}, lambda images: torch.zeros(3, 3, 16, 16), (16, 16))["x"].tensors

    before = tensors()
    with torch.no_grad():
        network[3].weight.add_(1)  # behind the layer
        assert tensors() == before
        network[1].attention.out_proj.weight.add_(1e-7)  # which no hook ever sees
    assert tensors() != before


def test_layers_together_or_alone_have_the_same_fingerprint():
    together = load_model("onet", FOUR)
    for layer in FOUR:
        assert differences(load_model("onet", [layer]).provenance(layer), together.provenance(layer)) == []


class OfTheBatch(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.ReLU())


class Dropping(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(3, 4, 3), nn.Identity())

    def forward(self, x):
        return self[1](functional.dropout(self[0](x), 0.1))  # training=True, whatever eval says


class Mixing(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(3, 4, 3), nn.Identity())

    def forward(self, x):
        maps = self[0](x)
        return self[1](maps - maps.mean(dim=0, keepdim=True))


@pytest.mark.parametrize(
    ("kind", "path", "message"),
    [
        (OfTheBatch, "2", "other maps beside other images: they differ by up to .* Probably a normalisation takes its"),
        (OfTheBatch, "1", "other maps beside other images"),
        (Mixing, "1", "other maps beside other images"),
        (Dropping, "1", "other maps when it is computed twice: they differ .* Probably dropout that stays on"),
    ],
)
def test_maps_that_depend_on_the_batch_or_on_chance_are_noticed(kind, path, message):
    network = kind().eval()
    with pytest.raises(DissectionError, match=f"layer 'x' \\({path}\\) gives one image {message}"):
        observe(network, {"x": path}, {}, lambda images: torch.from_numpy(images).permute(0, 3, 1, 2) / 255, (32, 32))
    # Before it all is well.
    assert "0" in observe(network, {"0": "0"}, {}, lambda images: torch.rand(3, 3, 32, 32), (32, 32))
