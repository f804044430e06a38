"""beauty: one attractiveness score, trained on SCUT-FBP5500 (method.md §2)."""

from loader.architectures import GroupedResNet18
from loader.models import ModelSpec

MODEL = ModelSpec(
    network="ResNet-18 in groups with one output",
    build=GroupedResNet18,
    layers={
        "layer1": "layer1.1.group1.conv2",
        "layer2": "layer2.1.group1.conv2",
        "layer3": "layer3.1.group1.conv2",
        "layer4": "layer4.1.group1.conv2",
    },
    side_px=224,
    checkpoint="resnet18.pth",
    source="the release of the paper's authors",
)
