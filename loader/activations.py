"""From files to activation maps: photographs read ahead in threads, batch after batch through the network."""

import numpy as np

from loader.images import load_image
from util.errors import DissectionError
from util.parallel import ordered_map


def activation_maps(recorder, model, batches, side_px, workers):
    """Record the activation maps of batches of photographs.

    recorder: ActivationRecorder within its `with` block. model: LoadedModel. batches: an iterable of lists of
    (path, box), box in pixels or None (see loader.images). side_px: of the network's input. workers: threads that read
    ahead.
    Yields {layer: float32 (b, U, H, W), NumPy} for each batch, {} for an empty one. Raises ImageError.
    """

    def load(batch):
        images = np.empty((len(batch), side_px, side_px, 3), np.uint8)
        for image, (path, box) in zip(images, batch, strict=True):
            image[:] = load_image(path, side_px, box)
        return images

    for images in ordered_map(load, batches, workers):
        recorded = recorder.run(model.preprocess(images)) if len(images) else {}
        yield {layer: maps.numpy() for layer, maps in recorded.items()}


def probe(recorder, model, side_px):
    """Check that the layers can be recorded. Returns {layer: (U, H, W)}. Raises DissectionError (see the recorder)."""
    images = model.preprocess(np.zeros((1, side_px, side_px, 3), np.uint8))
    return {layer: tuple(maps.shape[1:]) for layer, maps in recorder.probe(images).items()}


def require_finite(layer, maps, names, computed=None):
    """Raise DissectionError when maps hold NaN or infinity, naming the first image and unit.

    layer: its name. maps: (b, U, H, W), as they are kept. names: b texts that say which image it is. computed: the maps
    before they were stored with fewer bits, None when they are the same.
    """
    if np.isfinite(maps).all():
        return
    image, unit, *_ = np.argwhere(~np.isfinite(maps))[0]
    where = f"unit {unit} of {layer} on {names[image]}"
    if computed is not None and np.isfinite(computed).all():
        raise DissectionError(
            f"{where} reaches {abs(computed[image, unit]).max():g}, beyond {maps.dtype}: set FEATURE_DTYPE='float32'"
        )
    raise DissectionError(
        f"{where} is NaN or infinite: the checkpoint is damaged or does not belong to this network, or the input is "
        "normalised in another way than in training"
    )
