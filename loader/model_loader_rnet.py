"""rnet: MTCNN's second stage, which rejects and refines face boxes (method.md §2). No download needed."""

from facenet_pytorch.models.mtcnn import RNet

from loader.models import ModelSpec


def build():
    return RNet(pretrained=False)


def pretrained():
    return RNet(pretrained=True).state_dict()


MODEL = ModelSpec(
    network="R-Net of MTCNN",
    build=build,
    layers={"layer1": "prelu1", "layer2": "prelu2", "layer3": "prelu3"},
    side_px=128,
    source="the facenet-pytorch package",
    mean=127.5 / 255,  # with std below: (x - 127.5) / 128 of pixels x in 0..255
    std=128 / 255,
    pretrained=pretrained,
)
