"""The network of narrow.py, in a file that needs nothing of the tests: other Pythons load it by its path."""

from typing import Any

from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet

SHARE = 8


class NarrowResNet(ResNet):
    """Torchvision's modules, names and strides, with an eighth of the channels."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(BasicBlock, [2, 2, 2, 2], **settings)
        self.fc = nn.Linear(512 // SHARE, self.fc.out_features)

    def _make_layer(self, block: Any, planes: int, *arguments: Any, **settings: Any) -> nn.Sequential:
        if planes == 64:  # the first stage: what is before it becomes narrow, too
            self.inplanes = 64 // SHARE
            self.conv1 = nn.Conv2d(3, self.inplanes, 7, stride=2, padding=3, bias=False)
            self.bn1 = nn.BatchNorm2d(self.inplanes)
        return super()._make_layer(block, planes // SHARE, *arguments, **settings)


def build(*, weights: None = None, progress: bool = True, **settings: Any) -> NarrowResNet:
    return NarrowResNet(**settings)
