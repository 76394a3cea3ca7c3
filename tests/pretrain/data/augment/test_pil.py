"""The published pipeline is torchvision's composed transforms, bit for bit."""

import numpy as np
import pytest
import torch

from pretrain.data.augment import pil
from tests.support.pretrain import torchvision_recipe
from tests.support.pretrain.pictures import noise, photographs, scene


@pytest.mark.parametrize("name", ["v1", "v2"])
def test_for_the_same_draw_a_view_is_the_composed_transforms(name: str) -> None:
    seen: set[str] = set()
    for size, seeds in ((32, range(150)), (224, range(150, 170))):
        composed = torchvision_recipe.compose(name, size)
        images = [scene(), noise(61, 300), noise(2, 3), *photographs(2)]
        for seed in seeds:
            image = images[seed % len(images)]
            with torch.random.fork_rng(devices=[]):
                torchvision_recipe.seed(seed)
                draw = torchvision_recipe.draw(composed, image)
                torchvision_recipe.seed(seed)
                expected = composed(image)
            made = pil.view(image, draw, size)
            assert np.array_equal(made, expected.permute(1, 2, 0)), (seed, draw)
            seen |= {name for name, _ in draw.colours} | ({"flip"} if draw.flip else set())
            seen |= {"blur"} if draw.sigma else set()
    assert seen >= {"brightness", "contrast", "saturation", "hue", "gray", "flip"}
    assert ("blur" in seen) == (name == "v2")
