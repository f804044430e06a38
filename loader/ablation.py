"""The network behind a layer, run again from maps that were kept, with some units ablated (method.md §9).

A forward pass runs as ever, but what comes before the layer is not computed again: the modules that have ended by then
give back what they gave before, or NaN where nothing behind the layer looks at it, and the layer gives its kept maps
with those of some units replaced. Whatever a network does between its modules runs as it is written. Whether that gives
what the whole network gives is tried on the first images; where it doesn't, the whole network runs, ablated by a hook.
"""

import logging
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from loader.activations import stacked
from loader.batch import NOT_FINITE
from loader.recorder import ActivationRecorder
from util.errors import DissectionError
from util.parallel import ordered_map, progress

log = logging.getLogger(__name__)

# Of the greatest number predicted: by so much the network behind the layer may differ from the whole one, which rounds
# as it does when it gets the same maps.
_TOLERANCE = 1e-4


@dataclass
class _Call:
    """A call of a module that ends before the layer. output: what it gave, NaN where nothing behind looks at it."""

    module: torch.nn.Module
    output: torch.Tensor
    needed: bool = True

    def forget(self):
        self.needed, self.output = False, torch.full_like(self.output, torch.nan)

    def again(self):
        return self.output.clone() if self.needed else self.output  # what comes behind may change it in place


@dataclass(frozen=True)
class Kept:
    """What is kept of a batch. inputs: of the network. maps: of the layer, as it lays them out. calls: list of _Call.
    numbers: what the whole network predicts, float64 (N, K).
    """

    inputs: torch.Tensor
    maps: torch.Tensor
    calls: list
    numbers: np.ndarray


class NetworkBehind:
    """What a network predicts when units of one of its layers are ablated.

    model: LoadedModel with one layer, whose spec states what it predicts. images: uint8 (n, rows, columns, 3), a few on
    which it is tried whether the network can be split. split: whether it can be. Raises DissectionError as
    ActivationRecorder does, and where the network fails.
    """

    def __init__(self, model, images):
        (self.layer, path), = model.layers.items()  # fmt: skip
        self.model, self.module, self.split = model, model.module, True
        self.hooked = dict(self.module.named_modules(remove_duplicate=False))[path]
        inputs = model.preprocess(images[:2])
        with ActivationRecorder(self.module, model.layers, {self.layer: model.stated_layout(self.layer)}) as recorder:
            self.units = recorder.probe(inputs)[self.layer].shape[1]
            self.layout = recorder.layouts[self.layer]
        model.output(images[:1])  # fails in words
        self._needed = None  # places of the calls whose output is needed, None before they are known
        self._needed = self._find_needed(images[:2])
        if not self._agrees(images):
            self._go_whole()

    def keep(self, images):
        """Run the whole network once and keep what run() needs. images: uint8 (N, rows, columns, 3). Returns Kept."""
        inputs = self.model.preprocess(images)
        with torch.inference_mode(), self._recording() as course:
            output = self.module(inputs)
        if course.maps is None:
            raise DissectionError(f"layer {self.layer!r} is never reached in a forward pass")
        for place, call in enumerate(course.calls):
            if self._needed is not None and place not in self._needed:
                call.forget()
        return Kept(inputs, course.maps, course.calls, self._numbers(output))

    def run(self, kept, units=(), value=None):
        """What the network predicts of a kept batch with the maps of some units replaced. units: list of int.

        value: by what, float (U, H, W) or (N, U, H, W) as tensor or numpy, 0 by default. Returns float64 (N, K). Raises
        DissectionError for numbers that are not finite.
        """
        ablate = self._ablation(units, value)
        if self.split:
            try:
                return self._behind(kept, ablate)
            except _Diverged:  # after all
                self._go_whole()
        return self._whole(kept.inputs, ablate)

    def _go_whole(self):
        self.split = False
        where = self.model.layers[self.layer]
        log.info("%s: the network cannot be split at %s, and runs whole for each set of units", self.model.task, where)

    def _ablation(self, units, value):
        """A function that replaces the maps of some units in an output of the layer, in place."""
        units = list(units)
        if value is not None:
            value = torch.as_tensor(value).to(self.model.device)[..., units, :, :]

        def ablate(output):
            if units:
                self.layout.to_maps(output)[:, units] = 0 if value is None else value
            return output

        return ablate

    def _behind(self, kept, ablate):
        with torch.inference_mode(), self._replaying(kept, ablate(kept.maps.clone())):
            return self._numbers(self.module(kept.inputs))

    def _whole(self, inputs, ablate):
        handle = self.hooked.register_forward_hook(lambda _module, _inputs, output: ablate(output.clone()))
        try:
            with torch.inference_mode():
                return self._numbers(self.module(inputs))
        finally:
            handle.remove()

    def _numbers(self, output):
        numbers = self.model.spec.predicts.statement(output)
        if not np.isfinite(numbers).all():
            raise DissectionError(f"what {self.model.task} predicts is NaN or infinite: {NOT_FINITE}")
        return numbers

    # ---------------------------------------------------------------------------------------------------- splitting it

    @contextmanager
    def _recording(self):
        """Watch a pass: yields a _Course with the layer's maps and the outermost calls that end before it."""
        course, handles = _Course(), []
        above = [part for part in self.module.modules() if any(inner is self.hooked for inner in part.modules())]
        try:
            handles.append(self.hooked.register_forward_hook(course.reached))
            within = {id(part) for part in self.hooked.modules()} | {id(part) for part in above}
            for part in self.module.modules() if self.split else ():
                if id(part) not in within:
                    handles.append(part.register_forward_pre_hook(course.begins))
                    handles.append(part.register_forward_hook(course.ends))
            yield course
        finally:
            for handle in handles:
                handle.remove()

    @contextmanager
    def _replaying(self, kept, maps):
        """Let the modules before the layer give what they gave, and the layer some maps."""
        calls, passed = iter(kept.calls), []

        def give_maps(*_, **__):
            passed.append(True)
            return maps

        def replay(module, forward):
            def again(*inputs, **options):
                if passed:
                    return forward(*inputs, **options)
                call = next(calls, None)
                if call is None or call.module is not module:
                    raise _Diverged
                return call.again()

            return again

        own = {id(call.module): call.module for call in kept.calls}
        patched = [(module, replay(module, module.forward)) for module in own.values()]
        patched.append((self.hooked, give_maps))
        before = [(module, vars(module).get("forward")) for module, _ in patched]
        try:
            for module, forward in patched:
                module.forward = forward
            yield
        finally:
            for module, forward in before:
                del module.forward
                if forward is not None:
                    module.forward = forward

    def _find_needed(self, images):
        """The places of the calls whose output is looked at behind the layer: NaN there changes the prediction."""
        kept, needed = self.keep(images), set()
        for place, call in enumerate(kept.calls):
            output = call.output
            call.forget()
            try:
                same = np.array_equal(self._behind(kept, self._ablation((), None)), kept.numbers)
            except Exception:  # for NaN in the prediction, or whatever a network raises for it on the way
                same = False
            if not same:
                needed.add(place)
                call.needed, call.output = True, output
        return needed

    def _agrees(self, images):
        """Whether the split network gives what the whole one gives, with all units and with every other one ablated."""
        try:
            kept = self.keep(images)
            for units in ([], list(range(0, self.units, 2))):
                ablate = self._ablation(units, None)
                whole, split = self._whole(kept.inputs, ablate), self._behind(kept, ablate)
                if np.abs(whole - split).max() > _TOLERANCE * max(1, np.abs(whole).max()):
                    return False
        except DissectionError:
            raise
        except Exception as error:
            log.info("%s", error or type(error).__name__)
            return False
        return True


class _Diverged(Exception):
    """The modules before the layer are not called in the order in which they were."""


class _Course:
    """What a pass has come by until the layer. maps: of the layer, None before it is reached. calls: list of _Call."""

    def __init__(self):
        self.maps, self.calls, self._begun = None, [], []

    def reached(self, _module, _inputs, output):
        if self.maps is None:
            self.maps = output.clone()

    def begins(self, *_):
        if self.maps is None:
            self._begun.append(len(self.calls))

    def ends(self, module, _inputs, output):
        if self.maps is None:
            first = self._begun.pop()
            # What gives something else than numbers runs again; the calls within it need not.
            if isinstance(output, torch.Tensor) and output.is_floating_point():
                self.calls[first:] = [_Call(module, output.clone())]


def ablated_pass(model, sets, count, load, *, value, batch_size, workers, label):
    """What a network predicts of images whole, and with each of several sets of units ablated.

    model: LoadedModel with one layer. sets: list of S lists of units. count: of images. load: function place -> uint8
    (rows, columns, 3). value: float32 (U, H, W) that the maps are set to, None for 0. workers: threads that read ahead.
    label: of the progress bar. Returns float32 (1 + S, count, K). Raises DissectionError.
    """
    batches = [range(start, min(start + batch_size, count)) for start in range(0, count, batch_size)]
    behind, found = None, None
    with progress(count * (1 + len(sets)), label, "image") as bar:
        for places, images in zip(
            batches, ordered_map(lambda places: stacked(model.grid, load, places), batches, workers), strict=True
        ):
            behind = behind or NetworkBehind(model, images)
            kept = behind.keep(images)
            if found is None:
                found = np.empty((1 + len(sets), count, kept.numbers.shape[1]), np.float32)
            found[0, places] = kept.numbers
            for number, units in enumerate(sets, 1):
                found[number, places] = behind.run(kept, units, value)
                bar.update(len(places))
            bar.update(len(places))
    return found
