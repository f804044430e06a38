"""dlib_gender: female or male, by Cydral's network from dlib-models (method.md §2). No download needed."""

from loader.dlib_networks import GenderNetwork, dlib_spec
from loader.predictions import Classes

MODEL = dlib_spec(
    network="dlib's gender network of four convolutions",
    file="gender-v1.onnx",
    build=GenderNetwork,
    layers={"layer1": "relu1", "layer2": "relu2", "layer3": "relu3", "layer4": "relu4"},
    side_px=32,
    predicts=Classes("gender", ("female", "male"), are_logits=False),
)
