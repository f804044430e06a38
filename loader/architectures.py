"""Networks of the published face models that no library builds, module names as in their checkpoints (method.md §2)."""

from collections import OrderedDict

import torchvision
from torch import nn
from torch.nn import functional


def resnet50_with_dense_head(last):
    """ResNet-50 whose pooling is replaced by three dense layers; the network of age and gender.

    last: nn.Module that takes (N, 64). Input (N, 3, 128, 128): only there the last maps are 4x4x2048 = 32768 values.
    """
    network = torchvision.models.resnet50()
    network.avgpool = nn.Sequential(
        nn.Flatten(),
        nn.Linear(32768, 2048),
        nn.ReLU(),
        nn.Linear(2048, 512),
        nn.ReLU(),
        nn.Linear(512, 64),
        nn.ReLU(),
    )
    network.fc = last
    return network


class GroupedBlock(nn.Module):
    """ResNet-18's block of two convolutions, which lie in `group1`."""

    def __init__(self, channels_in, channels, stride):
        super().__init__()
        self.group1 = nn.Sequential(
            OrderedDict(
                conv1=nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False),
                bn1=nn.BatchNorm2d(channels),
                relu1=nn.ReLU(inplace=True),
                conv2=nn.Conv2d(channels, channels, 3, padding=1, bias=False),
                bn2=nn.BatchNorm2d(channels),
            )
        )
        self.relu = nn.Sequential(nn.ReLU(inplace=True))
        self.downsample = None
        if stride != 1 or channels_in != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, maps):
        shortcut = maps if self.downsample is None else self.downsample(maps)
        return self.relu(self.group1(maps) + shortcut)


class GroupedResNet18(nn.Module):
    """ResNet-18 with stem and blocks in groups and one output; the network of beauty. Input (N, 3, 224, 224)."""

    def __init__(self):
        super().__init__()
        self.group1 = nn.Sequential(
            OrderedDict(
                conv1=nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False),
                bn1=nn.BatchNorm2d(64),
                relu1=nn.ReLU(inplace=True),
                maxpool=nn.MaxPool2d(3, stride=2, padding=1),
            )
        )
        self.layer1 = nn.Sequential(GroupedBlock(64, 64, 1), GroupedBlock(64, 64, 1))
        self.layer2 = nn.Sequential(GroupedBlock(64, 128, 2), GroupedBlock(128, 128, 1))
        self.layer3 = nn.Sequential(GroupedBlock(128, 256, 2), GroupedBlock(256, 256, 1))
        self.layer4 = nn.Sequential(GroupedBlock(256, 512, 2), GroupedBlock(512, 512, 1))
        self.avgpool = nn.Sequential(nn.AvgPool2d(7))
        self.group2 = nn.Sequential(OrderedDict(fullyconnected=nn.Linear(512, 1)))

    def forward(self, images):
        maps = self.group1(images)
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            maps = layer(maps)
        return self.group2(self.avgpool(maps).flatten(1))


class EmbeddingResNet50(nn.Module):
    """ResNet-50 that embeds a face in 128 numbers; the network of fairface. Input (N, 3, 112, 112).

    `cnn` shares the convolutional modules of `model`, so that their tensors have two names each in a checkpoint.
    num_classes: people that training told apart by `model.classifier`, which the embedding doesn't use.
    """

    scale = 10.0  # length of an embedding

    def __init__(self, num_classes):
        super().__init__()
        self.model = torchvision.models.resnet50()
        model = self.model
        self.cnn = nn.Sequential(
            model.conv1, model.bn1, model.relu, model.maxpool, model.layer1, model.layer2, model.layer3, model.layer4
        )
        model.fc = nn.Sequential(nn.Flatten(), nn.Linear(32768, 128))
        model.classifier = nn.Linear(128, num_classes)

    def forward(self, images):
        embedding = self.model.fc(self.cnn(images))
        return functional.normalize(embedding, dim=1) * self.scale
