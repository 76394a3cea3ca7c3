"""The published recipes, and views that depend on their seed alone."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from pretrain import augment, randomness


def picture(width: int = 90, height: int = 70) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((width * 2, height * 2))


@pytest.mark.parametrize("name", ["v1", "v2"])
def test_views_depend_on_their_seed_alone(name: str) -> None:
    view = augment.recipe(name, 32)
    first = augment.two_views(picture(), view, 7)
    torch.rand(10)
    augment.two_views(picture(), view, 8)
    again = augment.two_views(picture(), augment.recipe(name, 32), 7)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[0], augment.two_views(picture(), view, 8)[0])
    assert first[0].shape == (3, 32, 32)
    assert first[0].dtype == torch.uint8


def test_drawing_views_leaves_the_random_state_of_the_run_alone() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    augment.two_views(picture(), augment.recipe("v2", 32), 7)
    assert torch.equal(torch.rand(3), expected)


def test_normalize_is_torchvisions_to_tensor_and_normalize() -> None:
    image = picture()
    published = transforms.Compose([transforms.ToTensor(), transforms.Normalize(augment.MEAN, augment.STD)])
    assert torch.equal(augment.normalize(transforms.functional.pil_to_tensor(image)[None])[0], published(image))


def test_the_recipes_are_the_published_ones() -> None:
    """Names, order and numbers, read from what is built (published.md, hyper-parameters)."""
    v1, v2 = (augment.recipe(name, 224).transforms for name in ("v1", "v2"))
    assert [type(step).__name__ for step in v1[:-1]] == [
        "RandomResizedCrop",
        "RandomGrayscale",
        "ColorJitter",
        "RandomHorizontalFlip",
    ]
    assert [type(step).__name__ for step in v2[:-1]] == [
        "RandomResizedCrop",
        "RandomApply",
        "RandomGrayscale",
        "RandomApply",
        "RandomHorizontalFlip",
    ]
    for steps in (v1, v2):
        assert (steps[0].size, steps[0].scale) == ((224, 224), (0.2, 1.0))
    assert v1[1].p == v2[2].p == 0.2
    (jitter,), (blur,) = v2[1].transforms, v2[3].transforms
    assert (v2[1].p, v2[3].p) == (0.8, 0.5)
    assert (blur.smallest, blur.largest) == (0.1, 2.0)
    for step, hue in ((v1[2], 0.4), (jitter, 0.1)):
        assert step.brightness == step.contrast == step.saturation == (0.6, 1.4)
        assert step.hue == (-hue, hue)


def test_the_shares_of_gray_and_blurred_views() -> None:
    view = augment.recipe("v2", 32)
    image = picture()
    views = [augment.two_views(image, view, seed) for seed in range(150)]
    gray = sum(bool((v[0] == v[1]).all() and (v[1] == v[2]).all()) for pair in views for v in pair)
    assert 0.12 < gray / 300 < 0.29  # 0.2, within 4 standard deviations


def test_crops_cover_at_least_the_share_asked_for() -> None:
    left_black = Image.new("RGB", (100, 100))
    left_black.paste((255, 255, 255), (50, 0, 100, 100))
    whole = augment.recipe("v1", 32, crop_scale=(0.99, 1.0))
    for seed in range(20):  # both halves are in, flipped or not
        half = augment.two_views(left_black, whole, seed)[0].float().mean(0)
        assert (half[:, 4] < half[:, 27]).all() or (half[:, 4] > half[:, 27]).all()


def test_positions_have_their_own_streams() -> None:
    positions = [(0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 0, 0), (0, 0, 11), (0, 1, 1), (0, 11, 0)]
    assert len({randomness.seed_of("views", *position) for position in positions}) == len(positions)
    assert randomness.seed_of("views", 0, 1, 2) == 8958201015310368248  # the same on every machine, for ever
