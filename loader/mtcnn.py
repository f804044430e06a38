"""What MTCNN's three networks have in common as tasks (method.md §2). Their weights are inside facenet-pytorch."""

from functools import partial

from loader.models import ModelSpec


def mtcnn_stage(name, network, stages, predicts=None):
    """The ModelSpec of one of MTCNN's networks.

    name: for messages. network: its class in facenet_pytorch.models.mtcnn. stages: number of convolutional stages; the
    layers layer1, layer2, ... are the maps after each stage's PReLU. predicts: see ModelSpec.
    """

    def pretrained():
        return network(pretrained=True).state_dict()

    return ModelSpec(
        network=f"{name} of MTCNN",
        build=partial(network, pretrained=False),
        layers={f"layer{stage}": f"prelu{stage}" for stage in range(1, stages + 1)},
        side_px=128,
        source="the facenet-pytorch package",
        mean=127.5 / 255,  # with std below: (x - 127.5) / 128 of pixels x in 0..255
        std=128 / 255,
        pretrained=pretrained,
        predicts=predicts,
    )
