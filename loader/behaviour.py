"""What a network does, as a fingerprint: the tensors up to a layer, and that layer's output on a fixed image.

The text of the code says little: a helper module or an installed package may change what a network computes, and a
comment changes nothing. So the layers are computed for a fixed input, on the CPU with one thread, where the same
network gives the same numbers up to rounding. On the way it shows whether an image's maps depend on chance or on the
images beside it, which would make every result a matter of luck.
"""

import hashlib
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import metadata

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from loader.recorder import ActivationRecorder
from util.errors import DissectionError

# Of an output's greatest value: what rounds otherwise in a batch than alone differs by less.
_ROUNDING = 1e-3
_DIGITS = 7  # of the numbers kept


@dataclass(frozen=True)
class Behaviour:
    """One layer's, or a whole network's. layout: of its output, in words. tensors: hex sha256 of the parameters and
    buffers of every module that began before the layer was done. outputs: per unit [its output weighted by fixed noise,
    the size of what was added up], against which rounding is judged.
    """

    layout: str
    tensors: str
    outputs: list


def observe(module, layers, layouts, preprocess, grid):
    """Watch a network compute its layers. module: nn.Module in eval mode on the CPU.

    layers: {name: module path}. layouts: {name: Layout or None}, as far as they are stated. preprocess: uint8 (N,
    rows, columns, 3) -> the network's input. grid: (rows, columns). Returns {name: Behaviour}. Raises DissectionError
    when the maps of an image depend on chance or on the images beside it, and as ActivationRecorder does.
    """
    images = preprocess(fixed_images(grid))
    with _one_thread(), ActivationRecorder(module, layers, layouts) as recorder:
        with _following(module, layers) as course:
            alone = recorder.probe(images[:1])
        begun = course.begun
        again, together = recorder.run(images[:1]), recorder.run(images)
        for name, maps in alone.items():
            _require_equal(name, layers[name], maps, again[name], "when it is computed twice", _OF_CHANCE)
            _require_equal(name, layers[name], maps, together[name][:1], "beside other images", _OF_BATCH)
        return {
            name: Behaviour(str(recorder.layouts[name]), _digest(module, begun[name]), _weighted(maps[0].numpy()))
            for name, maps in alone.items()
        }


def observe_whole(module, numbers_of, grid):
    """The Behaviour of a whole network, by its output. module: nn.Module in eval mode on the CPU.

    numbers_of: uint8 (N, rows, columns, 3) -> its output as float64 (N, C). grid: (rows, columns).
    """
    with _one_thread():
        numbers = numbers_of(fixed_images(grid))
    tensors = _digest(module, [path for path, _ in module.named_modules()])
    return Behaviour("", tensors, _weighted(numbers.T[:, :, None]))


_OF_CHANCE = "dropout that stays on, or another source of random numbers, is active: switch it off in eval mode"
_OF_BATCH = (
    "a normalisation takes its statistics from the batch, as BatchNorm does with track_running_stats=False: give it "
    "running statistics"
)


def _require_equal(name, path, one, other, when, cause):
    worst, greatest = float((one - other).abs().max()), float(one.abs().max())
    if worst > _ROUNDING * max(greatest, 1e-6):
        raise DissectionError(
            f"layer {name!r} ({path}) gives one image other maps {when}: they differ by up to {worst:.3g} where the "
            f"greatest value is {greatest:.3g}. Probably {cause}"
        )


def fixed_images(grid):
    """Three pictures of smooth and of sharp noise, always the same: uint8 (3, rows, columns, 3)."""
    random = np.random.default_rng(2022)
    coarse = random.integers(0, 256, (3, 8, 8, 3), np.uint8)
    rows, columns = (np.arange(count) * 8 // count for count in grid)
    smooth = coarse[:, rows][:, :, columns].astype(int)
    return np.clip(smooth + random.integers(-40, 41, smooth.shape), 0, 255).astype(np.uint8)


def _weighted(maps):
    """Each unit's map as a number that any change of it moves, and its size. maps: float32 (U, H, W).

    Returns list of U pairs of float.
    """
    terms = maps * np.random.default_rng(2022).standard_normal(maps.shape[1:])
    numbers = np.stack([terms.sum(axis=(1, 2)), np.abs(terms).sum(axis=(1, 2))], axis=1)
    return [[float(f"{number:.{_DIGITS}g}") for number in pair] for pair in numbers.tolist()]


class _Course:
    """How far a forward pass has come. started, ended: paths of modules. begun, finished: {layer: paths of the modules
    that had begun, and had ended, when it was done}. used: ids of the tensors that went into an operation until all
    layers were done.
    """

    def __init__(self):
        self.started, self.ended, self.begun, self.finished, self.used = set(), set(), {}, {}, set()

    def has_begun(self, path):
        return path in self.started or self.has_ended(path)

    def has_ended(self, path):
        # With a module that has ended count all within it: it may have used their tensors without calling them.
        names = path.split(".")
        return any(".".join(names[:depth]) in self.ended for depth in range(1, len(names) + 1))


@contextmanager
def _following(module, layers):
    """Follow the forward passes of a network. Yields _Course, filled on the way."""
    course, handles, paths = _Course(), [], [path for path, _ in module.named_modules()]
    for path, part in module.named_modules():
        handles.append(part.register_forward_pre_hook(lambda *_, path=path: course.started.add(path)))  # returns None
        handles.append(part.register_forward_hook(lambda *_, path=path: course.ended.add(path)))
    parts = dict(module.named_modules(remove_duplicate=False))

    def done(name):
        def note(*_):
            course.begun.setdefault(name, [path for path in paths if course.has_begun(path)])
            course.finished.setdefault(name, [path for path in paths if course.has_ended(path)])

        return note

    for name, path in layers.items():
        handles.append(parts[path].register_forward_hook(done(name)))
    try:
        yield course
    finally:
        for handle in handles:
            handle.remove()


class _NotingTensors(TorchFunctionMode):
    """Notes the ids of all tensors that go into an operation, while `wanted()` says so."""

    def __init__(self, used, wanted):
        super().__init__()
        self.used, self.wanted = used, wanted

    def __torch_function__(self, function, types, arguments=(), options=None):
        if self.wanted():
            given = [*arguments, *(options or {}).values()]
            within = [part for value in given if isinstance(value, list | tuple) for part in value]
            self.used.update(id(value) for value in [*given, *within] if isinstance(value, torch.Tensor))
        return function(*arguments, **(options or {}))


@dataclass(frozen=True)
class FirstPass:
    """What a network's first forward pass shows. tensors: names, in its state dict, of what it uses up to its layers.
    finished: paths of the modules that have ended by then. memory_format: the one in which the pass comes further.
    """

    tensors: frozenset
    finished: frozenset
    memory_format: torch.memory_format


def first_pass(module, layers, image):
    """Run a network once over one image, for what has to be known before its weights are loaded.

    module: nn.Module in eval mode on the CPU, changed to the memory format. layers: {name: module path}. image: the
    network's input, (1, C, H, W). Without layers, and where one is never reached, all tensors count as used. Returns
    FirstPass.
    """
    formats = (torch.channels_last, torch.contiguous_format)
    course, failed = _pass_in(formats[0], module, layers, image)
    memory_format = formats[0]
    if failed:  # by itself, or for the format: a network that flattens by view() takes contiguous tensors alone
        other, failed_too = _pass_in(formats[1], module, layers, image)
        if not failed_too or len(other.ended) > len(course.ended):
            course, memory_format = other, formats[1]
    module.to(memory_format=memory_format)
    own, parts = module.state_dict(keep_vars=True), dict(module.named_modules(remove_duplicate=False))
    if not layers or len(course.begun) < len(layers):
        return FirstPass(frozenset(own), frozenset(parts), memory_format)
    begun = {path for paths in course.begun.values() for path in paths}
    finished = {id(parts[path]) for paths in course.finished.values() for path in paths}
    tensors = {name for name, value in own.items() if name.rpartition(".")[0] in begun or id(value) in course.used}
    return FirstPass(
        frozenset(tensors), frozenset(path for path, part in parts.items() if id(part) in finished), memory_format
    )


def _pass_in(memory_format, module, layers, image):
    """One pass in a memory format. Returns its _Course and whether it failed."""
    module.to(memory_format=memory_format)
    with _following(module, layers) as course, torch.inference_mode(), torch.random.fork_rng(devices=[]):
        try:
            with _NotingTensors(course.used, lambda: len(course.begun) < len(layers)):
                module(image.contiguous(memory_format=memory_format))
        except Exception:  # a head that demands another size, or what the dissection will explain
            return course, True
    return course, False


def _digest(module, paths):
    """Hex sha256 over the own tensors of some modules, by path. What only counts batches is left out."""
    digest, parts = hashlib.sha256(), dict(module.named_modules())
    for path in paths:
        part = parts[path]
        for name, tensor in [*part.named_parameters(recurse=False), *part.named_buffers(recurse=False)]:
            if name != "num_batches_tracked":
                digest.update(repr((path, name, str(tensor.dtype), tuple(tensor.shape))).encode())
                digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


@contextmanager
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


_providers = cache(metadata.packages_distributions)  # which looks through every installed package


def package_versions(module):
    """{package: version} of torch and of the installed packages that define classes of a network."""
    named = {type(part).__module__.partition(".")[0] for part in module.modules()} | {"torch"}
    providers = _providers()
    found = {name: providers[name][0] for name in sorted(named) if name in providers}
    return {name: metadata.version(provider) for name, provider in found.items()}
