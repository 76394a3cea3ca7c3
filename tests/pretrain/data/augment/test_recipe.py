"""The recipes are the published ones."""

import torch
from torchvision import transforms

from pretrain.data.augment import recipe
from pretrain.runtime import seeds
from tests.support.pictures import noise


def test_normalize_is_torchvisions_to_tensor_and_normalize() -> None:
    image = noise()
    published = transforms.Compose([transforms.ToTensor(), transforms.Normalize(recipe.MEAN, recipe.STD)])
    assert torch.equal(recipe.normalize(transforms.functional.pil_to_tensor(image)[None])[0], published(image))


def test_positions_have_their_own_streams() -> None:
    positions = [(0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 0, 0), (0, 0, 11), (0, 1, 1), (0, 11, 0)]
    assert len({seeds.seed_of("views", *position) for position in positions}) == len(positions)
    assert seeds.seed_of("views", 0, 1, 2) == 8958201015310368248  # the same on every machine, for ever
