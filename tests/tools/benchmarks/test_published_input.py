"""tools/benchmarks/published_input.py: the yardstick's views are drawn as production's."""

import pathlib

import pytest
import torch

from benchmarks import published_input, sample_images
from pretrain.data import two_views
from pretrain.data.augment import recipe
from pretrain.data.images.image_set import open_images
from pretrain.models.normalize import normalize


@pytest.fixture(scope="module")
def folder() -> object:
    with sample_images.images_or_made(None, 4) as (made, _):
        yield made


@pytest.mark.parametrize("name", ["v1", "v2"])
def test_its_views_have_the_statistics_of_production_s(name: str, folder: pathlib.Path) -> None:
    """Mean and deviation over many views of a few images; one view's mean deviates by some 0.5."""
    torch.manual_seed(0)
    images, size, rounds = open_images(str(folder)), 32, 40
    theirs = published_input.make_loader(
        published_input.PublishedViews(images, published_input.recipe(name, size)), len(images), workers=0
    )
    ours = two_views.TwoViews(images, recipe.recipe(name, size), seed=0)
    theirs_views = torch.cat([view for _ in range(rounds) for batch in theirs for view in batch])
    batches = [ours[[(epoch, index) for index in range(len(images))]] for epoch in range(rounds)]
    our_views = torch.cat([normalize(view) for batch in batches for view in batch[:2]])
    assert theirs_views.dtype == torch.float32
    assert theirs_views.shape == our_views.shape
    for statistic in (torch.mean, torch.std):
        found, expected = (statistic(views.flatten(1), dim=1).mean() for views in (theirs_views, our_views))
        assert abs(found - expected) < 0.1


def test_made_images_repeat_and_are_as_large_as_photographs() -> None:
    found = []
    for _ in range(2):
        with sample_images.images_or_made(None, 2) as (made, said):
            found.append([path.read_bytes() for path in sorted(made.iterdir())])
        assert not made.exists()
        assert said.startswith("2 JPEGs of 500 x 375 pixels made from a seed")
    assert found[0] == found[1]
    assert all(40_000 < len(content) < 60_000 for content in found[0])
