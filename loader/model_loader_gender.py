"""gender: two classes, trained as the paper describes (method.md §2)."""

from torch import nn

from loader.architectures import resnet50_with_dense_head
from loader.models import ModelSpec


def build(num_classes=2):
    return resnet50_with_dense_head(last=nn.Sequential(nn.Linear(64, num_classes)))


MODEL = ModelSpec(
    network="ResNet-50 with a dense head and two outputs",
    build=build,
    layers={
        "layer1": "layer1.2.conv1",
        "layer2": "layer2.2.conv1",
        "layer3": "layer3.2.conv1",
        "layer4": "layer4.2.conv1",
    },
    side_px=128,
    checkpoint="gender_1_val_acc_0.9082.pth",
    source="the release of the paper's authors",
    options=("num_classes",),
)
