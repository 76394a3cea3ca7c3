"""A ResNet-18 of an eighth of the width under torchvision's name: a sixth of the time, a fiftieth of the disk.

For tests in which the width does not matter; some run at full width still.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from torch import nn
from torchvision.models import _api, resnet18
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


def _build(*, weights: None = None, progress: bool = True, **settings: Any) -> NarrowResNet:
    return NarrowResNet(**settings)


@contextlib.contextmanager
def narrow_resnet18() -> Iterator[None]:
    """Let torchvision.models.get_model("resnet18") build the narrow one, in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(_api.BUILTIN_MODELS, "resnet18", _build)
        yield


@contextlib.contextmanager
def full_resnet18() -> Iterator[None]:
    """Let it build torchvision's own, where the narrow one stands in."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(_api.BUILTIN_MODELS, "resnet18", resnet18)
        yield
