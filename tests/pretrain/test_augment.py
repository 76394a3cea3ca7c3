"""The recipes are the published ones."""

import torch
from torchvision import transforms

from pretrain import augment, randomness
from tests.pretrain.pictures import noise


def test_normalize_is_torchvisions_to_tensor_and_normalize() -> None:
    image = noise()
    published = transforms.Compose([transforms.ToTensor(), transforms.Normalize(augment.MEAN, augment.STD)])
    assert torch.equal(augment.normalize(transforms.functional.pil_to_tensor(image)[None])[0], published(image))


def test_positions_have_their_own_streams() -> None:
    positions = [(0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 0, 0), (0, 0, 11), (0, 1, 1), (0, 11, 0)]
    assert len({randomness.seed_of("views", *position) for position in positions}) == len(positions)
    assert randomness.seed_of("views", 0, 1, 2) == 8958201015310368248  # the same on every machine, for ever
