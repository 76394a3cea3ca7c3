"""The normalisation is torchvision's."""

import torch
from torchvision import transforms

from pretrain.models import normalize
from tests.support.pretrain.pictures import noise

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # as the published code has them, R, G, B


def test_normalize_is_torchvisions_to_tensor_and_normalize() -> None:
    image = noise()
    published = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
    assert torch.equal(normalize.normalize(transforms.functional.pil_to_tensor(image)[None])[0], published(image))
