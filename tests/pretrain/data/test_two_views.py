"""The order of samples, their views, what is shown for a broken image, the loader."""

import itertools
import pathlib
import shutil
import tracemalloc

import numpy as np
import pytest
import torch

from pretrain.data import two_views
from pretrain.data.augment import gpu, pil
from pretrain.data.augment import recipe as augment
from pretrain.data.augment.params import two_draws
from pretrain.data.images.image_set import ImageSet, open_images
from pretrain.runtime.errors import PretrainError
from pretrain.runtime.seeds import seed_of
from tests.support.shard_files import write_shard


@pytest.mark.parametrize(("world", "size", "batch"), [(1, 11, 4), (2, 11, 4), (4, 32, 8)])
def test_ranks_share_out_the_global_batches_of_one_process(world: int, size: int, batch: int) -> None:
    alone = two_views.EpochSampler(size, batch, seed=3)
    ranks = [two_views.EpochSampler(size, batch, 3, rank, world) for rank in range(world)]
    orders = []
    for epoch in (0, 1):
        for sampler in (alone, *ranks):
            sampler.epoch = epoch
        together = [[*itertools.chain(*shares)] for shares in zip(*ranks, strict=True)]  # rank r has slice r
        assert together == list(alone)
        assert len(together) == len(alone) == size // batch
        indices = [index for rows in together for at, index in rows if at == epoch]
        assert len(indices) == len(set(indices)) == size // batch * batch  # each at most once, the tail dropped
        assert set(indices) <= set(range(size))
        orders.append(indices)
    assert orders[0] != orders[1]


@pytest.mark.parametrize(("before", "after"), [(1, 4), (4, 2), (2, 2)])
def test_an_epoch_goes_on_on_another_number_of_ranks(before: int, after: int) -> None:
    size, batch, done = 103, 8, 5
    whole = [index for rows in two_views.EpochSampler(size, batch, seed=7) for _, index in rows]

    def indices(world: int, skip: int) -> list[list[int]]:
        ranks = [two_views.EpochSampler(size, batch, 7, rank, world) for rank in range(world)]
        for sampler in ranks:
            sampler.skip = skip
            assert len(sampler) == size // batch
        return [[index for _, index in itertools.chain(*shares)] for shares in zip(*ranks, strict=True)]

    joined = indices(before, 0)[:done] + indices(after, done)
    assert [*itertools.chain(*joined)] == whole
    assert len(set(whole)) == len(whole) == size // batch * batch


def test_what_is_set_later_does_not_change_an_iteration_under_way() -> None:
    sampler = two_views.EpochSampler(64, 8, seed=1)
    expected = list(sampler)
    iterator = iter(sampler)
    sampler.epoch, sampler.skip = 5, 3
    assert list(iterator) == expected


def test_the_order_of_a_billion_images_takes_no_memory() -> None:
    tracemalloc.start()
    try:
        sampler = two_views.EpochSampler(10**9, 256, seed=1)
        sampler.skip = 2_000_000
        batches = [*itertools.islice(sampler, 20)]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(batches) == 20
    assert len({index for rows in batches for _, index in rows}) == 20 * 256
    assert peak < 2_000_000  # bytes


def test_too_few_images_for_a_batch_are_refused() -> None:
    with pytest.raises(PretrainError, match=r"optim.batch_size: 16 is more than the 15 images"):
        two_views.EpochSampler(15, 16, 0)


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
def test_a_sample_is_the_same_for_any_number_of_workers_and_any_storage(pipeline: str, folder: pathlib.Path) -> None:
    recipe = augment.recipe("v2", 32)
    images = open_images(str(folder))
    open_images(shards(folder)).save(folder.parent / "index")
    mapped = ImageSet.load(folder.parent / "index", str(folder.parent / "shards"))
    sampler = two_views.EpochSampler(len(images), 4, 5)
    with_workers = two_views.make_loader(two_views.TwoViews(mapped, recipe, 5, pipeline), sampler, workers=2)
    without = two_views.make_loader(two_views.TwoViews(images, recipe, 5, pipeline), sampler, workers=0)
    alone = two_views.TwoViews(images, recipe, 5, pipeline)
    for epoch, skip in ((0, 0), (3, 1)):
        sampler.epoch, sampler.skip = epoch, skip
        batches = list(with_workers)
        assert len(batches) == 2 - skip
        for batch, same, positions in zip(batches, without, sampler, strict=True):
            assert all(torch.equal(part, other) for part, other in zip(batch, same, strict=True))
            assert batch.asked.tolist() == batch.shown.tolist() == [index for _, index in positions]
            for row, position in enumerate(positions):
                single = alone[[position]]  # the same whatever else is in the batch
                assert all(torch.equal(part[row], other[0]) for part, other in zip(batch, single, strict=True))
    two_views.close(with_workers)
    two_views.close(without)


def test_a_batch_holds_the_published_views_of_its_images(folder: pathlib.Path) -> None:
    images, recipe = open_images(str(folder)), augment.recipe("v2", 32)
    positions = [(3, 1), (0, 5), (3, 0)]
    batch = two_views.TwoViews(images, recipe, seed=5)[positions]
    for row, (epoch, index) in enumerate(positions):
        image = images.read(index)
        draws = two_draws(recipe, image.height, image.width, seed_of("views", 5, epoch, index))
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
            assert batch.asked.tolist() == list(range(9))
            for index, shown in enumerate(batch.shown.tolist()):
                assert (shown == index) == (index not in (4, 6))
                assert shown not in (4, 6)
                assert stands_in.setdefault((seed, index), shown) == shown
                if pipeline == "published":
                    image = images.read(shown)
                    draws = two_draws(recipe, image.height, image.width, seed_of("views", seed, epoch, index))
                    for views, draw in zip((batch.query, batch.key), draws, strict=True):
                        assert np.array_equal(views[index].permute(1, 2, 0), pil.view(image, draw, 32))
    assert len({stands_in[seed, 4] for seed in range(5)}) > 1  # another seed, another image
    assert any(stands_in[seed, 4] != stands_in[seed, 6] for seed in range(5))  # not one image for all


@pytest.mark.parametrize("workers", [0, 1])
def test_where_all_are_broken_the_search_for_another_ends(workers: int, folder: pathlib.Path) -> None:
    for path in folder.iterdir():
        path.write_text("no image any more")
    dataset = two_views.TwoViews(open_images(str(folder)), augment.recipe("v1", 32), seed=0)
    sampler = two_views.EpochSampler(9, 9, 0)
    first = next(iter(sampler))[0][1]
    loader = two_views.make_loader(dataset, sampler, workers)
    with pytest.raises(PretrainError) as caught:
        list(loader)
    said = f"{folder}/{first}.png: not an image of a known format (JPEG, PNG, GIF, BMP, PPM, TIFF, WEBP)"
    assert f"data.root: {said}; nor can 32 others that were to be shown in its place" in str(caught.value)
    two_views.close(loader)
