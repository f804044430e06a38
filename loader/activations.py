"""One pass of a network over images, whose activation maps go to consumers: the loop, the reading ahead and the bar.

A consumer is any object with `add(batch)`, batch a loader.batch.Batch; what it makes of them is its own business.
"""

import logging
import time

import numpy as np

from loader.batch import Batch, require_finite
from loader.recorder import ActivationRecorder
from util.parallel import ordered_map, progress

log = logging.getLogger(__name__)

_TOLD_AFTER = 5  # seconds of a pass from which it is told how long the rest takes
_WORTH_TELLING = 60  # seconds


def one_pass(model, layers, batches, load, begin, *, workers, label):
    """Run a network over images and hand every layer's maps to its consumers.

    model: LoadedModel. layers: names among the model's. batches: Sequence of lists of (place, name), see
    loader.batch.Batches. load: function place -> uint8 (rows, columns, 3), RGB. begin: function ({layer: (U, H, W)}) ->
    ({layer: consumers}, numbers of the batches wanted, int ascending), called once the layers are known to work.
    workers: threads that read ahead. label: of the progress bar. After the first batches of a long pass it is logged
    how long the others take. Raises DissectionError, see ActivationRecorder, and for activations that are not finite.
    """

    def read(number):
        batch = batches[number]
        return batch, stacked(model.grid, load, [place for place, _ in batch])

    paths = {layer: model.layers[layer] for layer in layers}
    with ActivationRecorder(model.module, paths, {layer: model.stated_layout(layer) for layer in layers}) as recorder:
        consumers, wanted = begin(probe(recorder, model))
        pace = _Pace(label, len(wanted))
        with progress(batches.count, label, "image") as bar:
            bar.update(batches.count - min(len(wanted) * batches.size, batches.count))  # those that are there already
            for batch, images in ordered_map(read, wanted, workers):
                if batch:
                    places, names = [place for place, _ in batch], [str(name) for _, name in batch]
                    for layer, maps in recorder.run(model.preprocess(images)).items():
                        maps = maps.numpy()
                        require_finite(layer, maps, places, names)
                        for consumer in consumers[layer]:
                            consumer.add(Batch(np.array(places), names, maps))
                bar.update(min(batches.size, batches.count - bar.n))
                pace.batch_done()


class _Pace:
    """Tells once, after the first batches, how long the others take. batches: their number."""

    def __init__(self, label, batches):
        self.label, self.batches, self.done, self.told = label, batches, 0, False
        self.begun = time.monotonic()

    def batch_done(self):
        self.done += 1
        if self.done == 1:  # which warms up
            self.begun = time.monotonic()
            return
        passed = time.monotonic() - self.begun
        if self.told or passed < _TOLD_AFTER:
            return
        self.told = True
        left = passed / (self.done - 1) * (self.batches - self.done)
        if left > _WORTH_TELLING:
            log.info("%s: about %s to go", self.label, duration(left))


def duration(seconds):
    """Seconds in words, rounded: 90 s, 12 min, 5.5 h."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def stacked(grid, load, places):
    images = np.empty((len(places), *grid, 3), np.uint8)
    for image, place in zip(images, places, strict=True):
        image[:] = load(place)
    return images


def whole_pass(model, count, load, batch_size, workers, label):
    """Run a whole network over images. Yields the places of one batch after the other, and its output for them, as the
    network gives it.

    model: LoadedModel. count: of images. load: see one_pass. Raises DissectionError (see LoadedModel.output).
    """
    batches = [range(start, min(start + batch_size, count)) for start in range(0, count, batch_size)]
    with progress(count, label, "image") as bar:
        for places, images in zip(
            batches, ordered_map(lambda places: stacked(model.grid, load, places), batches, workers), strict=True
        ):
            yield places, model.output(images)
            bar.update(len(places))


def probe(recorder, model):
    """Check that the layers can be recorded. Returns {layer: (U, H, W)}. Raises DissectionError (see the recorder)."""
    images = model.preprocess(np.zeros((1, *model.grid, 3), np.uint8))
    return {layer: tuple(maps.shape[1:]) for layer, maps in recorder.probe(images).items()}
