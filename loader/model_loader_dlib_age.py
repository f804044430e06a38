"""dlib_age: the age of a face, by Cydral's network from dlib-models (method.md §2). No download needed."""

from loader.dlib_networks import AgeNetwork, dlib_spec
from loader.predictions import Years

MODEL = dlib_spec(
    network="dlib's age network, a ResNet-10",
    file="age-v1.onnx",
    build=AgeNetwork,
    layers={"layer1": "relu", "layer2": "stage1", "layer3": "stage2", "layer4": "stage3"},
    side_px=64,
    # The youngest class stands for the first months (models/manifest.json of the package).
    predicts=Years((0.25, *range(1, 81)), are_logits=False),
)
