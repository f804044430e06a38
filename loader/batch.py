"""What a network's pass hands to consumers: the activation maps of a few images."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from util.errors import DissectionError

# What may be behind numbers that are none.
NOT_FINITE = (
    "the checkpoint is damaged or does not belong to this network, or the input is normalised in another way than in "
    "training"
)


class Batch(NamedTuple):
    """The activation maps of some images in one layer.

    images: int (b,), their places among all. names: b texts that say which image it is. maps: float32 (b, U, H, W).
    """

    images: np.ndarray
    names: list
    maps: np.ndarray


class Batches(Sequence):
    """Images cut into batches by their places among all, each made on demand: list of (place, name).

    count: of images. size: of batches. name_of: function place -> what tells an image. usable: bool (count,), which
    take part, all by default; a batch may be left empty.
    """

    def __init__(self, count, size, name_of, usable=None):
        self.count, self.size, self.name_of, self.usable = count, size, name_of, usable

    def __len__(self):
        return -(-self.count // self.size)

    def __getitem__(self, number):
        places = range(number * self.size, min((number + 1) * self.size, self.count))
        return [(place, self.name_of(place)) for place in places if self.usable is None or self.usable[place]]


def require_finite(layer, maps, places, names, computed=None):
    """Raise DissectionError when maps hold NaN or infinity, naming the first image and unit.

    layer: its name. maps: (b, U, H, W), as they are kept. places, names: of the b images. computed: the maps before
    they were stored with fewer bits, None when they are the same.
    """
    if np.isfinite(maps).all():
        return
    image, unit, *_ = np.argwhere(~np.isfinite(maps))[0]
    where = f"unit {unit} of {layer} on image {places[image]} ({names[image]})"
    if computed is not None and np.isfinite(computed).all():
        raise DissectionError(
            f"{where} reaches {abs(computed[image, unit]).max():g}, beyond {maps.dtype}: set FEATURE_DTYPE='float32'"
        )
    raise DissectionError(f"{where} is NaN or infinite: {NOT_FINITE}")
