"""facenet: embedding of a person's identity, trained on VGGFace2 (method.md §2)."""

from facenet_pytorch import InceptionResnetV1

from loader.crops import Crop
from loader.models import ModelSpec


def build(num_classes=8631):  # VGGFace2's people, whose classifier is in the published file
    return InceptionResnetV1(classify=True, num_classes=num_classes)


def pretrained():
    return InceptionResnetV1(pretrained="vggface2").state_dict()  # facenet-pytorch downloads it, once


MODEL = ModelSpec(
    network="Inception-ResNet-v1",
    build=build,
    layers={
        "layer1": "conv2d_4b",
        "layer2": "repeat_1.4.branch2.2",
        "layer3": "repeat_2.9.branch1.2",
        "layer4": "block8.branch1",
    },
    side_px=224,
    checkpoint="20180402-114759-vggface2.pt",
    source="the releases of facenet-pytorch",
    crop=Crop("box"),
    mean=127.5 / 255,  # with std below: (x - 127.5) / 128 of pixels x in 0..255
    std=128 / 255,
    pretrained=pretrained,
    options=("num_classes",),
)
