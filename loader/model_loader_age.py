"""age: a face's apparent age in years, trained on IMDB-WIKI (method.md §2)."""

from torch import nn

from loader.architectures import resnet50_with_dense_head
from loader.models import ModelSpec
from loader.predictions import Years


def build():
    return resnet50_with_dense_head(last=nn.Linear(64, 1))


MODEL = ModelSpec(
    network="ResNet-50 with a dense head and one output",
    build=build,
    layers={
        "layer1": "layer1.2.conv1",
        "layer2": "layer2.3.conv1",
        "layer3": "layer3.2.conv1",
        "layer4": "layer4.2.conv1",
    },
    side_px=128,
    checkpoint="age_3_val_loss_6.6400.pth",
    source="the release of the paper's authors",
    predicts=Years(),
)
