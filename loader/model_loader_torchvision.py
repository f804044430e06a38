"""torchvision: any classification network of torchvision.models, with a checkpoint of your own (WEIGHTS).

Set ARCHITECTURE to its name in torchvision and NUM_CLASSES to the number of its outputs (1000 unless set). Layers are
dotted module paths, such as layer4 of a resnet.
"""

from types import SimpleNamespace

from torchvision import models
from torchvision.models import densenet

from loader.models import ModelSpec
from util.errors import DissectionError, nearest

# These two train with side branches, which never run afterwards. And they expect their input as torchvision's ImageNet
# weights do: transform_input turns the ImageNet mean and std below into the 0.5 of their training. Trained with
# transform_input=False? Copy this file and set it so.
WITH_SIDE_BRANCHES = ("googlenet", "inception_v3")


def build(architecture=None, num_classes=1000):
    names = models.list_models(module=models)  # classification alone; detection and segmentation lie in submodules
    if architecture not in names:
        close = nearest(architecture, names)
        hint = f"did you mean {' or '.join(close)}?" if close else "such as resnet50 or vgg16_bn"
        wanted = f"set ARCHITECTURE to a classification network of torchvision, not {architecture!r}"
        raise DissectionError(f"{wanted}: {hint}")
    plain = architecture in WITH_SIDE_BRANCHES
    others = {"aux_logits": False, "transform_input": True, "init_weights": True} if plain else {}
    return models.get_model(architecture, weights=None, num_classes=num_classes, **others)


def renamed(state):
    """The names of DenseNets of 2018 as torchvision renames them: its own rule, which loads what it has downloaded."""
    taken = {}
    downloaded = SimpleNamespace(get_state_dict=lambda **_: dict(state))
    densenet._load_state_dict(SimpleNamespace(load_state_dict=taken.update), downloaded, progress=False)
    return taken


MODEL = ModelSpec(
    network="torchvision network",
    build=build,
    layers={},
    side_px=224,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    options=("architecture", "num_classes"),
    renamed=renamed,
)
