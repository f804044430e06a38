"""One pass of a network over images, whose activation maps go to consumers: the loop, the reading ahead and the bar.

A consumer is any object with `add(batch)`, batch a loader.batch.Batch; what it makes of them is its own business.
"""

import numpy as np

from loader.batch import Batch, require_finite
from loader.recorder import ActivationRecorder
from util.parallel import ordered_map, progress


def one_pass(model, layers, batches, load, begin, *, workers, label, total):
    """Run a network over images and hand every layer's maps to its consumers.

    model: LoadedModel. layers: names among the model's. batches: list of lists of (place, name) of images. load:
    function place -> uint8 (rows, columns, 3), RGB. begin: function ({layer: (U, H, W)}) -> ({layer: consumers},
    place of the first image wanted), called once the layers are known to work. workers: threads that read ahead.
    label, total: of the progress bar. Raises DissectionError, see ActivationRecorder, and for activations that are not
    finite.
    """

    def read(batch):
        return stacked(model.grid, load, [place for place, _ in batch])

    paths = {layer: model.layers[layer] for layer in layers}
    with ActivationRecorder(model.module, paths, {layer: model.stated_layout(layer) for layer in layers}) as recorder:
        consumers, start = begin(probe(recorder, model))
        batches = [batch for batch in batches if batch and batch[0][0] >= start]
        with progress(total, label, "image") as bar:
            bar.update(start)
            for batch, images in zip(batches, ordered_map(read, batches, workers), strict=True):
                places, names = [place for place, _ in batch], [str(name) for _, name in batch]
                for layer, maps in recorder.run(model.preprocess(images)).items():
                    maps = maps.numpy()
                    require_finite(layer, maps, places, names)
                    for consumer in consumers[layer]:
                        consumer.add(Batch(np.array(places), names, maps))
                bar.update(places[-1] + 1 - bar.n)


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
