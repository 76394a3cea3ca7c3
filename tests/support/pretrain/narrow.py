"""A ResNet-18 of an eighth of the width under torchvision's name: a sixth of the time, a fiftieth of the disk.

For tests in which the width does not matter; some run at full width still.
"""

import contextlib
from collections.abc import Iterator

import pytest
from torchvision.models import _api, resnet18

from tests.support.pretrain.narrow_resnet import build


@contextlib.contextmanager
def narrow_resnet18() -> Iterator[None]:
    """Let torchvision.models.get_model("resnet18") build the narrow one, in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(_api.BUILTIN_MODELS, "resnet18", build)
        yield


@contextlib.contextmanager
def full_resnet18() -> Iterator[None]:
    """Let it build torchvision's own, where the narrow one stands in."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(_api.BUILTIN_MODELS, "resnet18", resnet18)
        yield
