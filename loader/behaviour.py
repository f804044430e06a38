"""What a network does, as a fingerprint: the tensors up to a layer, and that layer's output on a fixed image.

The text of the code says little: a helper module or an installed package may change what a network computes, and a
comment changes nothing. So the layers are computed for a fixed input, on the CPU with one thread, where the same
network gives the same numbers up to rounding. On the way it shows whether an image's maps depend on chance or on the
images beside it, which would make every result a matter of luck.
"""

import hashlib
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata

import numpy as np
import torch

from loader.recorder import ActivationRecorder
from util.errors import DissectionError

# Of an output's greatest value: what rounds otherwise in a batch than alone differs by less.
_ROUNDING = 1e-3
_DIGITS = 7  # of the numbers kept


@dataclass(frozen=True)
class Behaviour:
    """One layer's. layout: of its output, in words. tensors: hex sha256 of the parameters and buffers of every module
    that began before the layer was done. outputs: per unit [its output weighted by fixed noise, the size of what was
    added up], against which rounding is judged.
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
    images = preprocess(_fixed_images(grid))
    with _one_thread(), ActivationRecorder(module, layers, layouts) as recorder:
        with _noting_begun_modules(module, layers) as begun:
            alone = recorder.probe(images[:1])
        again, together = recorder.run(images[:1]), recorder.run(images)
        for name, maps in alone.items():
            _require_equal(name, layers[name], maps, again[name], "when it is computed twice", _OF_CHANCE)
            _require_equal(name, layers[name], maps, together[name][:1], "beside other images", _OF_BATCH)
        return {
            name: Behaviour(str(recorder.layouts[name]), _digest(module, begun[name]), _weighted(maps[0].numpy()))
            for name, maps in alone.items()
        }


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


def _fixed_images(grid):
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


@contextmanager
def _noting_begun_modules(module, layers):
    """Note which modules have begun when each layer is done. Yields {layer: list of paths}, filled on the way.

    With a module that has ended count all within it: it may have used their tensors without calling them.
    """
    started, ended, begun, handles = set(), set(), {}, []
    for path, part in module.named_modules():
        handles.append(part.register_forward_pre_hook(lambda *_, path=path: started.add(path)))  # returns None
        handles.append(part.register_forward_hook(lambda *_, path=path: ended.add(path)))
    parts = dict(module.named_modules(remove_duplicate=False))

    def has_begun(path):
        names = path.split(".")
        return path in started or any(".".join(names[:depth]) in ended for depth in range(1, len(names)))

    def done(name):
        def note(*_):
            begun.setdefault(name, [path for path, _ in module.named_modules() if has_begun(path)])

        return note

    for name, path in layers.items():
        handles.append(parts[path].register_forward_hook(done(name)))
    try:
        yield begun
    finally:
        for handle in handles:
            handle.remove()


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


def package_versions(module):
    """{package: version} of torch and of the installed packages that define classes of a network."""
    named = {type(part).__module__.partition(".")[0] for part in module.modules()} | {"torch"}
    providers = metadata.packages_distributions()
    found = {name: providers[name][0] for name in sorted(named) if name in providers}
    return {name: metadata.version(provider) for name, provider in found.items()}
