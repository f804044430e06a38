"""Networks by task name: what a loader file states, and the network that comes of it.

A task is a file loader/model_loader_<task>.py with one module-level MODEL = ModelSpec(...); dropping such a file in is
all it takes to add one. Copy model_loader_smile.py to begin.
"""

import logging
import math
import sys
import traceback
import types
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cached_property
from numbers import Real
from pathlib import Path

import numpy as np
import torch
from torch.nn.modules.lazy import LazyModuleMixin

from loader.behaviour import first_pass, fixed_images, observe, observe_whole, package_versions
from loader.checkpoints import Weights, digest_of, read_checkpoint
from loader.crops import Crop, as_grid
from loader.layout import Layout
from loader.pickles import HELP
from loader.predictions import Classes, Points, Years
from loader.tasks import BEHAVIOUR, LOADER_FOLDER, RANDOM_WEIGHTS, loader_file
from loader.weights import fit_weights
from util.errors import DissectionError, first_few, nearest, shorten

log = logging.getLogger(__name__)

_CPU = torch.device("cpu")
CHANNELS = {"rgb": ("R", "G", "B"), "bgr": ("B", "G", "R"), "gray": ("grey",)}
BUILD_OPTIONS = ("architecture", "num_classes")  # settings that a loader's build function may take


@dataclass(frozen=True)
class ModelSpec:
    """What a loader file states about its network. Raises DissectionError when a value makes no sense.

    network: one line that names the architecture, for messages and reports.
    build: callable(**options) -> nn.Module, untrained, its weights as initialised under the current seed.
    layers: dict short layer name -> dotted module path; empty when only dotted paths are to be used.
    side_px: of the input, pixels: the side of a square, or (height, width).
    checkpoint: file name under model/, None when there is none by default.
    source: noun phrase for where the weights come from, such as "the smile project's web site".
    crop: loader.crops.Crop of the face, None for the whole photograph. True means Crop("box"), False None.
    channels: 'rgb', 'bgr' or 'gray', the order in which the network takes colours.
    mean, std: the network's input is (x - mean) / std of x in [0, 1]; one number, or one per channel in its order.
    pretrained: callable() -> state dict, asked when the checkpoint isn't in model/; None when there is nothing to ask.
    options: names of the settings that build takes, of BUILD_OPTIONS.
    layouts: dict layer name or module path -> loader.layout.Layout, of layers whose output's layout cannot be found.
    predicts: what the output says of a face, one of the classes of loader/predictions.py; None when it isn't stated.
    renamed: callable(state dict) -> state dict under the present names, where a library has renamed its modules.
    """

    network: str
    build: Callable
    layers: dict
    side_px: int | tuple
    checkpoint: str | None = None
    source: str = ""
    crop: Crop | bool | None = None
    channels: str = "rgb"
    mean: float | tuple = 0.0
    std: float | tuple = 1.0
    pretrained: Callable | None = None
    options: tuple = ()
    layouts: dict = field(default_factory=dict)
    predicts: Classes | Years | Points | None = None
    renamed: Callable | None = None

    def __post_init__(self):
        if isinstance(self.crop, bool):
            object.__setattr__(self, "crop", Crop("box") if self.crop else None)
        checkpoint, channels = self.checkpoint, CHANNELS.get(self.channels, ())
        checks = (
            ("network", _is_line(self.network), "one line of text that names the architecture"),
            ("build", callable(self.build), "a function that returns the untrained network"),
            ("layers", _is_layer_table(self.layers), "a dict of layer name -> dotted module path"),
            ("side_px", _is_size(self.side_px), "a whole number of pixels above 0, or (height, width)"),
            ("checkpoint", checkpoint is None or _is_line(checkpoint), "a file name under model/, or None"),
            ("source", isinstance(self.source, str), "text that says where the weights come from"),
            ("crop", isinstance(self.crop, Crop | None), "a loader.crops.Crop, None, True or False"),
            ("channels", bool(channels), f"one of {', '.join(map(repr, CHANNELS))}"),
            ("mean", _is_per_channel(self.mean, channels), f"a number, or one for each of {', '.join(channels)}"),
            ("std", _is_per_channel(self.std, channels, above=0), f"above 0, one or for each of {', '.join(channels)}"),
            ("predicts", isinstance(self.predicts, Classes | Years | Points | None), "one of loader/predictions.py"),
            ("pretrained", self.pretrained is None or callable(self.pretrained), "a function that returns weights"),
            ("renamed", self.renamed is None or callable(self.renamed), "a function of a state dict that returns one"),
            ("layouts", _are_layouts(self.layouts), "a dict of layer name -> loader.layout.Layout"),
            ("options", _are_options(self.options), f"a tuple with names of {BUILD_OPTIONS}"),
        )
        for name, holds, expected in checks:
            if not holds:
                raise DissectionError(f"ModelSpec: {name} must be {expected}, not {getattr(self, name)!r}")


def _is_line(value):
    return isinstance(value, str) and bool(value.strip()) and len(value.splitlines()) == 1


def _is_layer_table(value):
    return isinstance(value, dict) and all(_is_line(text) for pair in value.items() for text in pair)


def _is_size(value):
    sides = value if isinstance(value, tuple | list) and len(value) == 2 else (value,)
    return all(type(side) is int and side > 0 for side in sides)


def _is_per_channel(value, channels, above=-math.inf):
    numbers = value if isinstance(value, tuple | list) and len(value) == len(channels) else (value,)
    return all(
        isinstance(number, Real) and not isinstance(number, bool) and math.isfinite(number) and number > above
        for number in numbers
    )


def _are_layouts(value):
    return isinstance(value, dict) and all(isinstance(layout, Layout) for layout in value.values())


def _are_options(value):
    return isinstance(value, tuple | list) and all(name in BUILD_OPTIONS for name in value)


@dataclass
class LoadedModel:
    """A network ready to be dissected.

    task: its name. spec: what its loader file states. module: nn.Module in eval mode on the device, without gradients,
    in float32. layers: dict layer name -> dotted module path, in the order asked. weights: where they come from.
    device: torch.device. grid: (rows, columns) of the input, pixels. memory_format: of the input, the one that the
    network works on.
    unfitted: names of tensors behind the layers that got no weights, so that the network's own output means nothing.
    described: the network in a few words, with the options that it was built under.
    """

    task: str
    spec: ModelSpec
    module: torch.nn.Module
    layers: dict
    weights: Weights
    device: torch.device
    grid: tuple
    memory_format: torch.memory_format = torch.channels_last
    unfitted: tuple = ()
    described: str = ""

    @property
    def weights_label(self):
        """Short text for where the weights come from."""
        return self.weights.label

    def stated_layout(self, layer):
        """The Layout that the loader file states for a layer, by its name or its path; None when it states none."""
        return self.spec.layouts.get(layer, self.spec.layouts.get(self.layers[layer]))

    @cached_property
    def behaviour(self):
        """{layer: loader.behaviour.Behaviour}, observed on the CPU. Raises DissectionError (see observe)."""
        on_cpu = self._on_cpu()
        layouts = {layer: self.stated_layout(layer) for layer in self.layers}
        return observe(on_cpu.module, self.layers, layouts, on_cpu.preprocess, self.grid)

    def _on_cpu(self):
        return self if self.device.type == "cpu" else replace(self, module=deepcopy(self.module).cpu(), device=_CPU)

    def output(self, images):
        """What the whole network gives for photographs. images: uint8 (N, rows, columns, 3) RGB.

        Raises DissectionError when the network fails, as one does whose head demands another input size.
        """
        try:
            with torch.inference_mode():
                return self.module(self.preprocess(images))
        except Exception as error:  # a head can fail in any way
            rows, columns = self.grid
            reason = shorten(_reason(error))
            raise DissectionError(f"{self.task} fails on images of {rows} x {columns} px: {reason}") from error

    def provenance(self, layer=None):
        """What of the network decides a layer's activation maps, besides the input; without a layer, its predictions.

        Returns JSON values by name. Raises DissectionError for a network that fails or does not keep what it states.
        """
        if layer is None:
            on_cpu, predicts = self._on_cpu(), self.spec.predicts
            behaviour = observe_whole(on_cpu.module, lambda images: predicts.numbers(on_cpu.output(images)), self.grid)
        else:
            behaviour = self.behaviour[layer]
        return {
            "task": self.task,
            "module": layer and self.layers[layer],
            "layout": behaviour.layout,
            "weights": behaviour.tensors,
            BEHAVIOUR: behaviour.outputs,
            "packages": package_versions(self.module),
            "input_normalisation": self.normalisation,
            "channels": self.spec.channels,
        }

    @property
    def normalisation(self):
        """Mean and standard deviation of x in 0..1, [list of float per channel, the same]."""
        return [self._per_channel(value).tolist() for value in (self.spec.mean, self.spec.std)]

    def _per_channel(self, value):
        return np.broadcast_to(value, len(CHANNELS[self.spec.channels])).astype(float)

    def preprocess(self, images):
        """Standardise photographs for the network.

        images: uint8 (N, rows, columns, 3) RGB, numpy or torch. Returns float32 (N, 3, rows, columns), or one channel
        where the network takes grey, in its memory format on the device: (x / 255 - mean) / std, rounded once from
        float64. Raises ValueError for another dtype or shape.
        """
        if not isinstance(images, torch.Tensor):
            images = torch.from_numpy(np.array(images, order="C"))
        if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[3] != 3:
            raise ValueError(f"images must be uint8 (N, rows, columns, 3), not {images.dtype} {tuple(images.shape)}")
        images = images.to(self.device)
        if self.spec.channels == "bgr":
            images = images.flip(3)
        if self.spec.channels == "gray":
            # Luma as Pillow's convert("L") rounds it, so that a level is one of 256 here as well.
            weights = torch.tensor([19595, 38470, 7471], dtype=torch.int32, device=self.device)
            images = ((images.int() * weights).sum(3, keepdim=True, dtype=torch.int32) + 0x8000) >> 16
        # A pixel has 256 values, so a table per channel is exact, and needs no float64, which MPS doesn't have.
        levels = np.arange(256)[:, None] / 255
        table = (levels - self._per_channel(self.spec.mean)) / self._per_channel(self.spec.std)  # (256, channels)
        starts = 256 * torch.arange(table.shape[1], dtype=torch.int32, device=self.device)  # of the channels' values
        table = torch.from_numpy(table.T.astype(np.float32).reshape(-1)).to(self.device)
        return table[images.int() + starts].permute(0, 3, 1, 2).contiguous(memory_format=self.memory_format)


def model_spec(task, folder=LOADER_FOLDER):
    """Run a task's loader file. Returns its ModelSpec. Raises DissectionError when the file is missing or faulty."""
    path = loader_file(task, folder)
    shown = f"{path.parent.name}/{path.name}"
    name = f"{path.parent.name}.{path.stem}"
    module = types.ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module  # classes that the file defines look themselves up here
    try:
        # Not by import, which may run an older compiled copy than what stands in the file.
        exec(compile(path.read_bytes(), path, "exec"), module.__dict__)
    except Exception as error:  # a user's file can fail in any way
        del sys.modules[name]
        raise DissectionError(f"{shown}{_line_of(error, path)}: {_reason(error)}") from error
    model = getattr(module, "MODEL", None)
    if not isinstance(model, ModelSpec):
        found = "has no MODEL" if model is None else f"has MODEL of type {type(model).__name__}"
        raise DissectionError(f"{shown} {found}: it must define MODEL = ModelSpec(...), as the files beside it do")
    return model


def _line_of(error, path):
    """The line of a file where an error arose, for a message; empty when it can't be told."""
    if isinstance(error, SyntaxError) and error.lineno:
        return f", line {error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == path]
    return f", line {lines[-1]}" if lines else ""


def _reason(error):
    """An exception in words: type and text, the text alone for what is addressed to the user already."""
    if isinstance(error, DissectionError):
        return str(error)
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}: {text}"


def load_model(
    task,
    layer_names,
    *,
    weights=None,
    seed=0,
    model_folder="model",
    device="cpu",
    input_size=None,
    architecture=None,
    num_classes=None,
    checkpoint_key=None,
    loader_folder=LOADER_FOLDER,
):
    """Build a task's network, load its weights and find its layers.

    layer_names: list of short layer names or dotted module paths; None for no layer and the network's own output, which
    needs every tensor. weights: None for the loader's own checkpoint,
    'random' for the untrained twin under seed, else the path of a checkpoint. architecture, num_classes: for loaders
    that take them (see ModelSpec.options). checkpoint_key: which of several weights in a file, see CHECKPOINT_KEY in
    settings.py. device: torch.device or its name. input_size: of the input, a side or
    (height, width), None for the task's own.
    Returns LoadedModel. The global random state is left as it was. Raises DissectionError for everything that the user
    can mend; the network never goes on with weights other than those asked for, up to its layers.
    """
    spec = model_spec(task, loader_folder)
    options = _options(task, spec, architecture, num_classes)
    described = f"{spec.network} ({', '.join([task, *(f'{name} {value}' for name, value in options.items())])})"
    label, content, digest = _read_weights(spec, weights, seed, Path(model_folder), described)
    model = LoadedModel(task, spec, None, {}, None, _CPU, as_grid(input_size or spec.side_px), described=described)
    image = model.preprocess(fixed_images(model.grid)[:1])
    model.module, notes = _build(task, spec, options, seed, image)
    for note in notes:
        log.info("task %s: the network %s", task, note)
    model.layers = {} if layer_names is None else _find_layers(task, spec, model.module, layer_names)
    first = first_pass(model.module, model.layers, image)
    if content is None:
        other, _ = _build(task, spec, options, seed ^ 1, image)
        _require_drawn(described, model.module, other, first.tensors)
        model.weights = Weights(label, "", digest_of(model.module.state_dict()), averaged=False)
    else:
        _load_weights(model, first, content, digest, label, described, checkpoint_key)
    model.memory_format, model.device = first.memory_format, torch.device(device)
    model.module = model.module.requires_grad_(False).to(model.device, memory_format=model.memory_format)
    return model


def _load_weights(model, first, content, digest, label, described, checkpoint_key):
    """Load what _read_weights has found into the model's module, and say what was taken. first: see first_pass."""
    fitted = fit_weights(
        model.module, content, first, label=label, network=described, key=checkpoint_key, renamed=model.spec.renamed,
        takes_num_classes="num_classes" in model.spec.options,
    )  # fmt: skip
    log.info("%s", fitted.line)
    model.weights = Weights(label, fitted.key, digest or digest_of(model.module.state_dict()), fitted.averaged)
    model.unfitted = fitted.unfitted


def _options(task, spec, architecture, num_classes):
    """The build options that are set. Raises DissectionError for one that the loader doesn't take."""
    options = {"architecture": architecture, "num_classes": num_classes}
    options = {name: value for name, value in options.items() if value is not None}
    for name in options:
        if name not in spec.options:
            raise DissectionError(f"task {task} takes no {name.upper()}: its network is always {spec.network}")
    if num_classes is not None and (type(num_classes) is not int or num_classes < 1):
        raise DissectionError(f"NUM_CLASSES must be a whole number above 0, not {num_classes!r}")
    return options


def _build(task, spec, options, seed, image):
    """Build the untrained network under a seed, in eval mode and float32, and give the global random state back.

    image: the network's input, for layers that take their shapes from it. Returns nn.Module on the CPU, and what was
    done to it: list of texts.
    """
    with torch.random.fork_rng(devices=[]):  # initialisation happens on the CPU, so its state alone is to be kept
        torch.default_generator.manual_seed(seed)
        try:
            module = spec.build(**options)
        except DissectionError:
            raise
        except Exception as error:  # a user's build function can fail in any way
            raise DissectionError(f"task {task}: build failed with {_reason(error)}") from error
        if not isinstance(module, torch.nn.Module):
            raise DissectionError(f"task {task}: build must return an nn.Module, not {type(module).__name__}")
        module, notes = _watchable(task, module)
        built = {value.dtype for value in [*module.parameters(), *module.buffers()] if value.is_floating_point()}
        if built - {torch.float32}:
            module.float()
            listed = ", ".join(sorted(str(kind).removeprefix("torch.") for kind in built))
            notes.append(f"is built in {listed} and dissected in float32")
        return _with_shapes(task, module.eval(), image), notes


def _watchable(task, module):
    """A network whose modules can be watched: what torch.compile wraps is taken out, TorchScript refused.

    Returns nn.Module and what was done, list of texts.
    """
    for path, part in [*module.named_modules()]:
        if isinstance(part, torch.jit.ScriptModule):
            where = f" at {path}" if path else ""
            raise DissectionError(
                f"task {task}: build returns a TorchScript network{where}, whose layers cannot be watched: return the "
                "nn.Module itself"
            )
    compiled = [path for path, part in module.named_modules() if path.rpartition(".")[2] == "_orig_mod"]
    for path in reversed(compiled):  # the inner ones first
        parent, _, name = path.removesuffix("_orig_mod").rstrip(".").rpartition(".")
        if not name:
            module = module.get_submodule(path)
        else:
            setattr(module.get_submodule(parent), name, module.get_submodule(path))
    in_place = [part for part in module.modules() if part._compiled_call_impl is not None]
    for part in in_place:  # what Module.compile() had it call, which need not heed hooks
        part._compiled_call_impl = None
    return module, ["is compiled, and dissected as it is without torch.compile"] if compiled or in_place else []


def _with_shapes(task, module, image):
    """Give lazy layers their shapes by a pass over an image. Raises DissectionError for those that it doesn't reach."""

    def open_layers():
        return [path for path, part in module.named_modules()
                if isinstance(part, LazyModuleMixin) and part.has_uninitialized_params()]  # fmt: skip

    reason = ""
    if open_layers():
        try:
            with torch.no_grad():
                module(image)
        except Exception as error:  # of a head, perhaps, behind all lazy layers
            reason = f" ({_reason(error)})"
    if open_layers():
        raise DissectionError(
            f"task {task}: the lazy layers {first_few(open_layers())} have no shapes after a pass over an image of "
            f"{image.shape[2]} x {image.shape[3]} px{reason}: build them with their shapes"
        )
    return module


class NotUntrained(DissectionError):
    """A network that cannot be built without its training."""


def shuffled(model, seed):
    """A twin of a network that cannot be built untrained: its weights, each tensor shuffled within itself.

    model: LoadedModel. Returns LoadedModel.
    """
    module, random = deepcopy(model.module), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in [*module.parameters(), *module.buffers()]:
            if tensor.is_floating_point():
                mixed = tensor.reshape(-1).cpu()[torch.randperm(tensor.numel(), generator=random)]
                tensor.copy_(mixed.reshape(tensor.shape))
    weights = Weights(f"{model.weights.label}, shuffled, seed {seed}", "", digest_of(module.state_dict()), False)
    return replace(model, module=module, weights=weights)


def _require_drawn(described, module, other, needed):
    """Raise DissectionError when an untrained network has weights that do not come of its seed.

    module, other: the network under two seeds. needed: names of its tensors up to the dissected layers.
    """
    drawn = dict(other.named_parameters())
    same = [
        name for name, weight in module.named_parameters()
        if name in needed and weight.dim() > 1 and torch.equal(weight, drawn[name]) and weight.min() < weight.max()
    ]  # fmt: skip
    if same:
        raise NotUntrained(
            f"{described} is no untrained network: {first_few(same)} are the same under two seeds, which must differ. "
            "build loads weights, or draws them elsewhere than from torch; register fixed filters as buffers"
        )


def _read_weights(spec, weights, seed, model_folder, described):
    """Find and read what `weights` asks for: (label, content of the file or state dict, digest of the file or None).

    The content is None for the untrained network.
    """
    if weights == RANDOM_WEIGHTS:
        return f"random, seed {seed}", None, None
    path = weights
    if path is None and spec.checkpoint and (model_folder / spec.checkpoint).exists():
        path = model_folder / spec.checkpoint
    if path is not None:
        return str(path), *read_checkpoint(path)
    path = model_folder / spec.checkpoint if spec.checkpoint else None
    if spec.pretrained is None:
        raise DissectionError(_no_weights(spec, path, described))
    label = f"from {spec.source}" if spec.source else "from the loader's pretrained()"
    return label, _pretrained_weights(spec, path, described), None


def _no_weights(spec, path, described):
    ways = "set WEIGHTS to the path of a checkpoint, or to 'random' for the untrained network"
    if path is None:
        return f"{described} has no checkpoint of its own: {ways}"
    source = f"get it from {spec.source}, or " if spec.source else ""
    return f"{described} needs {path}, which is not there: {source}{ways}. {HELP}"


def _pretrained_weights(spec, path, described):
    """The state dict of spec.pretrained(). Raises DissectionError when a library or a download fails."""
    try:
        with torch.random.fork_rng(devices=[]):  # libraries build a network first, which draws random numbers
            return spec.pretrained()
    except Exception as error:  # no network, no disk space, a broken download: libraries raise all sorts
        by_hand = f": get the file from {spec.source or 'its publisher'} and put it at {path}" if path else ""
        raise DissectionError(
            f"the weights of {described} could not be fetched ({_reason(error)}){by_hand}. {HELP}"
        ) from error


def _find_layers(task, spec, module, names):
    """Look the asked layers up. Returns dict name -> dotted module path in the order asked. Raises DissectionError."""
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise DissectionError(f"LAYER_NAME must be a list of layer names, not {names!r}")
    if not names:
        raise DissectionError(
            f"no layer to dissect: name at least one in LAYER_NAME. {_valid_layers(task, spec, module)}"
        )
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DissectionError(f"layer {', '.join(twice)} is named more than once")
    paths = [path for path, _ in module.named_modules(remove_duplicate=False) if path]
    found = {}
    for name in names:
        path = spec.layers.get(name, name)
        if path not in paths:
            where = f" at {path!r}, where its loader file puts it" if name in spec.layers else ""
            close = nearest(path, [*spec.layers, *paths])
            hint = f"did you mean {' or '.join(close)}? " if close else ""
            valid = _valid_layers(task, spec, module)
            raise DissectionError(f"task {task} has no layer {name!r}{where}: {hint}{valid}")
        found[name] = path
    return found


def _valid_layers(task, spec, module):
    convolutions = [path for path, part in module.named_modules() if isinstance(part, torch.nn.Conv2d)]
    examples = ", ".join(dict.fromkeys([*convolutions[:1], *convolutions[-2:]]))
    if spec.layers:
        short = ", ".join(spec.layers)
        return f"The layers of {task} are {short}; any dotted module path works too, such as {examples}"
    return f"The layers of {task} are dotted module paths, such as {examples}"
