"""Activation maps of chosen layers: one object that owns the hooks and always removes them."""

from collections import Counter
from contextlib import contextmanager, suppress

import torch

from loader.layout import find_layout, gives_maps, other_size, stated_example
from util.errors import DissectionError


class _EveryLayerFired(BaseException):
    """Ends a forward pass early. No Exception, so that a network's own `except Exception` doesn't swallow it."""


class ActivationRecorder:
    """Records the activation maps of some layers of one network, batch by batch.

    with ActivationRecorder(module, {"layer4": "layer4.2.conv1"}) as recorder:
        maps = recorder.run(images)["layer4"]

    module: nn.Module in eval mode. layers: dict name -> dotted module path. layouts: dict name -> loader.layout.Layout,
    as far as they are stated; the first batch finds the others (see find_layout). The hooks live from `with` to its
    end, however it ends. The first batch is a probe: a whole forward pass, which finds layers that cannot be dissected.
    From then on the pass stops as soon as the last wanted layer has fired, which saves time, and a head that demands
    another input size is never reached.
    """

    def __init__(self, module, layers, layouts=None):
        """Raises DissectionError when a path is none of the module's. Registers nothing yet."""
        modules = dict(module.named_modules(remove_duplicate=False))
        for name, path in layers.items():
            if path not in modules:
                raise DissectionError(f"layer {name!r}: the network has no module {path!r}")
        self.module = module
        self.layers = dict(layers)
        self.layouts = {name: layout for name, layout in (layouts or {}).items() if layout is not None}
        self._hooked = {name: modules[path] for name, path in self.layers.items()}
        self._handles = []
        self._probed = False
        self._stops_early = False
        self._fired = Counter()
        self._maps = {}
        self._batch_size = 0

    def __enter__(self):
        for name, hooked in self._hooked.items():
            self._handles.append(hooked.register_forward_hook(self._hook(name)))
        return self

    def __exit__(self, *exception):
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._maps = {}

    def run(self, images):
        """Compute the activation maps of one batch.

        images: float32 (N, 3, S, S) on the module's device, already standardised (LoadedModel.preprocess).
        Returns dict layer name -> float32 (N, U, H, W), contiguous CPU copies, in the order of the layers.
        Raises DissectionError when a layer cannot be computed for this input size, never fires, fires more than once
        per pass, or gives no maps.
        """
        if not self._handles:
            raise ValueError("the recorder has no hooks: use it within its `with` block")
        if not self._probed:
            return self.probe(images)
        self._stops_early = True
        return self._result(images, self._forward(images))

    def probe(self, images):
        """Run one whole forward pass and check every layer. Arguments, result and errors as for run().

        A head that fails (most demand one input size) does no harm as long as every wanted layer came before it.
        """
        if not self._handles:
            raise ValueError("the recorder has no hooks: use it within its `with` block")
        self._stops_early = False
        with self._counting_maps() as counts:
            error = self._forward(images)
        for name, times in self._fired.items():
            if times > 1:
                raise self._ambiguous(name, times, counts)
        raw = self._result(images, error)
        self._find_layouts(images, {name: output.shape for name, output in raw.items()})
        self._probed = True
        return {name: self._as_maps(name, output).contiguous() for name, output in raw.items()}

    def _find_layouts(self, images, shapes):
        """Find the layouts that are not stated. shapes: {layer: shape of its output}."""
        open_questions = [
            name for name in shapes if name not in self.layouts and not gives_maps(self._hooked[name], shapes[name])
        ]
        elsewhere = {}
        if open_questions:
            self._stops_early = True
            with suppress(DissectionError):  # whatever ends it, what was reached tells its size
                self._forward(other_size(images))
            elsewhere, self._maps = self._maps, {}
        for name, shape in shapes.items():
            reached = (1, *elsewhere[name].shape[1:]) if name in elsewhere else None
            found = self.layouts.get(name) or find_layout(self._hooked[name], (1, *shape[1:]), reached)
            if found is None:
                raise self._no_maps(name, shape)
            self.layouts[name] = found

    def _no_maps(self, name, shape):
        described = f"layer {name!r} ({self.layers[name]})"
        if len(shape) not in (3, 4):
            return DissectionError(
                f"{described} gives a tensor of shape {tuple(shape)}, not activation maps (N, units, height, width): "
                "choose a convolutional module"
            )
        line = f"layouts={{{name!r}: {stated_example(shape)}}}"
        return DissectionError(
            f"{described} gives a tensor of shape {tuple(shape)}, in which units and places cannot be told apart: "
            f"state its layout in the ModelSpec of the loader file, such as {line} (loader/layout.py lists them)"
        )

    def _as_maps(self, name, output):
        try:
            return self.layouts[name].to_maps(output)
        except ValueError as error:
            raise DissectionError(f"layer {name!r} ({self.layers[name]}): {error}") from error

    def _hook(self, name):
        def record(_module, _inputs, output):
            self._fired[name] += 1
            if name not in self._maps:
                self._maps[name] = self._copy(name, output)
            if self._stops_early and len(self._maps) == len(self.layers):
                raise _EveryLayerFired

        return record

    def _copy(self, name, output):
        """Copy a layer's output to the CPU before an in-place operation alters it: maps, float32 (N, U, H, W).

        Before the layouts are known, as it is.
        """
        described = f"layer {name!r} ({self.layers[name]})"
        if not isinstance(output, torch.Tensor):
            raise DissectionError(f"{described} gives a {type(output).__name__}, not one tensor: choose another module")
        if output.dim() not in (3, 4):
            raise self._no_maps(name, output.shape)
        if output.shape[0] != self._batch_size:
            raise DissectionError(f"{described} gives {output.shape[0]} maps for {self._batch_size} images")
        # Outside inference mode, because an inference tensor could not be changed in place by whoever gets it.
        if self._probed:
            output = self._as_maps(name, output)
        with torch.inference_mode(False):
            return torch.empty(output.shape, dtype=torch.float32).copy_(output)

    def _forward(self, images):
        """Run the network with the hooks recording. Returns the exception that ended the pass, None when none did."""
        self._maps, self._fired, self._batch_size = {}, Counter(), images.shape[0]
        try:
            with torch.inference_mode():
                self.module(images)
        except _EveryLayerFired:
            return None
        except DissectionError:
            raise
        except Exception as error:  # whatever a head raises for a foreign size; _result tells whether it matters
            return error
        return None

    def _result(self, images, error):
        """The maps in the order of the layers, or the error that says why one is missing."""
        maps, self._maps = self._maps, {}
        for name, path in self.layers.items():
            if name in maps:
                continue
            if error is None:
                raise DissectionError(f"layer {name!r} ({path}) is never reached in a forward pass")
            height, width = images.shape[-2:]
            if isinstance(error, torch.OutOfMemoryError):
                raise DissectionError(
                    f"out of memory on {images.device} before layer {name!r}, with {len(images)} images of {height} x "
                    f"{width} px at once: make the batches smaller"
                ) from error
            reason = str(error).strip() or type(error).__name__
            if "to have 1 channels, but got 3" in reason:  # torch's words
                reason += "; a network of grey images has channels='gray' in the ModelSpec of its loader file"
            raise DissectionError(
                f"layer {name!r} ({path}) cannot be computed for images of {height} x {width} px: the network fails "
                f"before it ({reason})"
            ) from error
        return {name: maps[name] for name in self.layers}

    @contextmanager
    def _counting_maps(self):
        """Count how often every module of the network gives something like maps. Yields Counter path -> times."""
        counts, handles = Counter(), []

        def counting(path):
            def count(_module, _inputs, output):
                counts[path] += isinstance(output, torch.Tensor) and output.dim() in (3, 4)

            return count

        try:
            for path, module in self.module.named_modules():
                handles.append(module.register_forward_hook(counting(path)))
            yield counts
        finally:
            for handle in handles:
                handle.remove()

    def _ambiguous(self, name, times, counts):
        """The error for a layer that runs several times, with the modules beside or around it that run once."""
        path = self.layers[name]
        parent = path.rpartition(".")[0]
        beside = [other for other in counts if other != path and other.rpartition(".")[0] == parent]
        once = [other for other in [*beside, parent] if other and counts[other] == 1]
        advice = f", such as {', '.join(once[:4])}" if once else ""
        return DissectionError(
            f"layer {name!r} ({path}) runs {times} times in one forward pass, so its maps are ambiguous: choose a "
            f"module that runs once{advice}"
        )
