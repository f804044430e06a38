"""onet: MTCNN's last stage, which finds the face box and five landmarks (method.md §2). No download needed."""

from facenet_pytorch.models.mtcnn import ONet

from loader.models import ModelSpec


def build():
    return ONet(pretrained=False)


def pretrained():
    return ONet(pretrained=True).state_dict()


MODEL = ModelSpec(
    network="O-Net of MTCNN",
    build=build,
    layers={"layer1": "prelu1", "layer2": "prelu2", "layer3": "prelu3", "layer4": "prelu4"},
    side_px=128,
    source="the facenet-pytorch package",
    mean=127.5 / 255,  # with std below: (x - 127.5) / 128 of pixels x in 0..255
    std=128 / 255,
    pretrained=pretrained,
)
