"""The normalisation is torchvision's."""

import torch
from torchvision import transforms

from pretrain.models import normalize
from tests.support.pretrain.pictures import noise


def test_normalize_is_torchvisions_to_tensor_and_normalize() -> None:
    image = noise()
    published = transforms.Compose([transforms.ToTensor(), transforms.Normalize(normalize.MEAN, normalize.STD)])
    assert torch.equal(normalize.normalize(transforms.functional.pil_to_tensor(image)[None])[0], published(image))
