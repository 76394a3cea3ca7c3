"""The views of a sample, the replacement of a broken image, and the loader of both."""

import pathlib
import shutil

import numpy as np
import pytest
import torch

from pretrain.data import two_views
from pretrain.data.augment import gpu, pil
from pretrain.data.augment import recipe as augment
from pretrain.data.augment.params import draw_two_views
from pretrain.data.images.image_set import ImageSet, open_images
from pretrain.data.loader import EpochLoader
from pretrain.data.sampler import EpochSampler
from pretrain.runtime.errors import PretrainError
from pretrain.runtime.seeds import seed_of
from tests.support.pretrain.shard_files import write_shard


@pytest.fixture
def folder(pictures: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    """Images that a test may damage."""
    return pathlib.Path(shutil.copytree(pictures, tmp_path / "copies"))


def shards(folder: pathlib.Path) -> str:
    """The same images in two shards, their order kept."""
    content = [(path.name, path.read_bytes()) for path in sorted(folder.iterdir())]
    write_shard(folder.parent / "shards" / "0.tar", content[:4])
    write_shard(folder.parent / "shards" / "1.tar", content[4:])
    return str(folder.parent / "shards")


@pytest.mark.parametrize("pipeline", ["published", "fast", "device"])
def test_samples_do_not_depend_on_workers_or_storage(pipeline: str, folder: pathlib.Path) -> None:
    recipe = augment.recipe("v2", 32)
    images = open_images(str(folder))
    open_images(shards(folder)).save(folder.parent / "index")
    mapped = ImageSet.load(folder.parent / "index", str(folder.parent / "shards"))
    sampler = EpochSampler(len(images), 4, 5)
    with_workers = EpochLoader(two_views.TwoViews(mapped, recipe, 5, pipeline), sampler, workers=2)
    without = EpochLoader(two_views.TwoViews(images, recipe, 5, pipeline), sampler, workers=0)
    alone = two_views.TwoViews(images, recipe, 5, pipeline)
    for epoch, skip in ((0, 0), (3, 1)):
        batches = list(with_workers.batches(epoch, skip))
        assert len(batches) == 2 - skip
        for batch, same, positions in zip(
            batches, without.batches(epoch, skip), sampler.batches(epoch, skip), strict=True
        ):
            assert all(torch.equal(part, other) for part, other in zip(batch, same, strict=True))
            assert batch.requested.tolist() == batch.used.tolist() == [index for _, index in positions]
            for row, position in enumerate(positions):
                single = alone[[position]]  # the same whatever else is in the batch
                assert all(torch.equal(part[row], other[0]) for part, other in zip(batch, single, strict=True))
    with_workers.close()
    without.close()


def test_a_batch_holds_the_published_views_of_its_images(folder: pathlib.Path) -> None:
    images, recipe = open_images(str(folder)), augment.recipe("v2", 32)
    positions = [(3, 1), (0, 5), (3, 0)]
    batch = two_views.TwoViews(images, recipe, seed=5)[positions]
    for row, (epoch, index) in enumerate(positions):
        image = images.read(index)
        draws = draw_two_views(recipe, image.height, image.width, seed_of("views", 5, epoch, index))
        for views, draw in zip((batch.query, batch.key), draws, strict=True):
            assert np.array_equal(views[row].permute(1, 2, 0), pil.view(image, draw, 32))
    assert batch.query.shape == batch.key.shape == (3, 3, 32, 32)
    assert batch.query.dtype == batch.key.dtype == torch.uint8
    assert batch.query.is_contiguous(memory_format=torch.channels_last)
    assert batch.draws.shape == (3, 2, 0)


def test_what_the_device_has_left_to_do_completes_the_views(folder: pathlib.Path) -> None:
    """Crops by torch, then Pillow's arithmetic; the fast pipeline has the same crops."""
    images, recipe = open_images(str(folder)), augment.recipe("v2", 32)
    positions = [(epoch, index) for epoch in range(4) for index in range(9)]
    crops, fast = (two_views.TwoViews(images, recipe, 5, pipeline)[positions] for pipeline in ("device", "fast"))
    assert crops.draws.shape == (36, 2, gpu.COLUMNS)
    for side, (mine, theirs) in enumerate(((crops.query, fast.query), (crops.key, fast.key))):
        whole = gpu.augment_batch(mine, crops.draws[:, side])
        assert (whole.float() - theirs.float()).abs().mean() < 1
        assert (mine.float() - theirs.float()).abs().mean() > 5


@pytest.mark.parametrize("pipeline", ["published", "fast", "device"])
def test_a_broken_image_is_replaced_by_the_same_one_always(pipeline: str, folder: pathlib.Path) -> None:
    (folder / "4.png").write_text("no image any more")
    (folder / "6.png").write_bytes(b"")
    images, recipe = open_images(str(folder)), augment.recipe("v1", 32)
    stands_in = {}
    for seed in range(5):
        dataset = two_views.TwoViews(images, recipe, seed, pipeline)
        for epoch in (0, 7):
            batch = dataset[[(epoch, index) for index in range(9)]]
            assert batch.requested.tolist() == list(range(9))
            for index, shown in enumerate(batch.used.tolist()):
                assert (shown == index) == (index not in (4, 6))
                assert shown not in (4, 6)
                assert stands_in.setdefault((seed, index), shown) == shown
                if pipeline == "published":
                    image = images.read(shown)
                    draws = draw_two_views(recipe, image.height, image.width, seed_of("views", seed, epoch, index))
                    for views, draw in zip((batch.query, batch.key), draws, strict=True):
                        assert np.array_equal(views[index].permute(1, 2, 0), pil.view(image, draw, 32))
    assert len({stands_in[seed, 4] for seed in range(5)}) > 1  # another seed, another image
    assert any(stands_in[seed, 4] != stands_in[seed, 6] for seed in range(5))  # not one image for all


@pytest.mark.parametrize("workers", [0, 1])
def test_where_all_are_broken_the_search_for_another_ends(workers: int, folder: pathlib.Path) -> None:
    for path in folder.iterdir():
        path.write_text("no image any more")
    dataset = two_views.TwoViews(open_images(str(folder)), augment.recipe("v1", 32), seed=0)
    sampler = EpochSampler(9, 9, 0)
    first = next(sampler.batches(0))[0][1]
    loader = EpochLoader(dataset, sampler, workers)
    with pytest.raises(PretrainError) as caught:
        list(loader.batches(0))
    said = f"{folder}/{first}.png: not an image of a known format (JPEG, PNG, GIF, BMP, PPM, TIFF, WEBP)"
    assert f"data.root: {said}; 32 others, tried in its place, cannot be read either" in str(caught.value)
    loader.close()
