"""fairface: embedding of a person's identity, trained as the paper describes (method.md §2)."""

from loader.architectures import EmbeddingResNet50
from loader.crops import Crop
from loader.models import ModelSpec


def build(num_classes=4294):
    return EmbeddingResNet50(num_classes)


MODEL = ModelSpec(
    network="ResNet-50 with a 128-number embedding",
    build=build,
    layers={
        "layer1": "model.layer1.2.conv1",
        "layer2": "model.layer2.2.conv1",
        "layer3": "model.layer3.2.conv1",
        "layer4": "model.layer4.2.conv1",
    },
    side_px=112,
    checkpoint="best_state_43.pth",
    source="the release of the paper's authors",
    crop=Crop("box"),
    options=("num_classes",),
)
