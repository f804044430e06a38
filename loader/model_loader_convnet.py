"""convnet: a small network whose parts can be left out one by one, for studies of what training makes.

ARCHITECTURE says what it consists of, as '32-64-128-256 batchnorm dropout': the units of each block, then what it has
besides. Block k is the module `block<k>`: a convolution of 3 x 3, batch normalisation where it is asked for, ReLU, and
the largest of each 2 x 2. Behind the blocks lie the mean over places and a hidden layer; dropout stands on both sides
of it.
"""

import re
from collections import OrderedDict

from torch import nn

from loader.models import ModelSpec
from util.errors import DissectionError

_PARTS = ("batchnorm", "dropout")
_HIDDEN, _DROPPED = 256, 0.5  # units of the hidden layer; the share that dropout leaves out


def parts_of(architecture):
    """What a network consists of. Returns the units of each block, list of int, and names of _PARTS, a list.

    Raises DissectionError for another text than the file's first lines describe.
    """
    widths, *parts = (architecture or "").split() or [""]
    if not re.fullmatch(r"[1-9]\d*(-[1-9]\d*)*", widths) or set(parts) - {*_PARTS}:
        raise DissectionError(
            f"{architecture!r} is no network of convnet: give the units of each block, and what it has besides, as "
            f"'32-64-128-256 {' '.join(_PARTS)}'"
        )
    return list(map(int, widths.split("-"))), parts


def build(architecture=None, num_classes=2):
    (widths, parts), blocks, channels = parts_of(architecture), OrderedDict(), 3
    for number, width in enumerate(widths, 1):
        blocks[f"block{number}"] = _block(channels, width, "batchnorm" in parts)
        channels = width
    dropout = [nn.Dropout(_DROPPED)] if "dropout" in parts else []
    head = [*dropout, nn.Linear(channels, _HIDDEN), nn.ReLU(), *dropout, nn.Linear(_HIDDEN, num_classes)]
    behind = OrderedDict(mean=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten(), head=nn.Sequential(*head))
    return nn.Sequential(blocks | behind)


def _block(channels_in, channels, normalised):
    normalisation = [nn.BatchNorm2d(channels)] if normalised else []
    convolution = nn.Conv2d(channels_in, channels, 3, padding=1, bias=not normalised)
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    return nn.Sequential(convolution, *normalisation, nn.ReLU(), nn.MaxPool2d(2))


MODEL = ModelSpec(
    network="small convolutional network",
    build=build,
    layers={},
    side_px=96,
    mean=0.5,
    std=0.25,
    options=("architecture", "num_classes"),
)
