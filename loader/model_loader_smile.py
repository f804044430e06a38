"""smile: smiling or not, trained on a set like CelebA (method.md §2)."""

import torchvision
from torch import nn

from loader.models import ModelSpec


def build(num_classes=2):
    network = torchvision.models.resnet50()
    network.fc = nn.Sequential(nn.Linear(2048, num_classes))
    return network


MODEL = ModelSpec(
    network="ResNet-50 with two outputs",
    build=build,
    layers={
        "layer1": "layer1.2.conv1",
        "layer2": "layer2.2.conv1",
        "layer3": "layer3.2.conv1",
        "layer4": "layer4.2.conv1",
    },
    side_px=200,
    checkpoint="smile_nonsmile_0.912.pth",
    source="the release of the paper's authors",
    options=("num_classes",),
)
