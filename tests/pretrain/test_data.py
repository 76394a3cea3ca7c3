"""Finding and reading images, the order of samples, the loader."""

import itertools
import os
import pathlib
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from pretrain import augment, data
from pretrain.errors import PretrainError
from pretrain.randomness import seed_of


def save(path: pathlib.Path, colour: tuple[int, int, int] = (10, 20, 30), size: tuple[int, int] = (40, 50)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def test_images_are_found_in_trees_and_flat_folders_sorted(tmp_path: pathlib.Path) -> None:
    for name in ("b/2.PNG", "b/1.jpg", "a/deep/er/3.jpeg", "0.webp", ".hidden/9.jpg", "b/._1.jpg"):
        save(tmp_path / name)
    (tmp_path / "b" / "notes.txt").write_text("no image")
    elsewhere = tmp_path.with_name(tmp_path.name + "_linked")
    save(elsewhere / "x.bmp")
    (tmp_path / "link").symlink_to(elsewhere)
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    found = [os.path.relpath(path, tmp_path) for path in data.find_images(str(tmp_path))]
    assert found == ["0.webp", "a/deep/er/3.jpeg", "b/1.jpg", "b/2.PNG", "link/x.bmp"]


def test_a_folder_without_images_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(PretrainError, match=f"data.root: {tmp_path}/nowhere: no such folder"):
        data.find_images(f"{tmp_path}/nowhere")
    with pytest.raises(PretrainError, match=f"data.root: {tmp_path}: no images in it or below, no files at all"):
        data.find_images(str(tmp_path))
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(PretrainError, match="only 1 other files"):
        data.find_images(str(tmp_path))
    with pytest.raises(PretrainError, match=r"notes.txt: not a folder"):
        data.find_images(str(tmp_path / "notes.txt"))


BROKEN = {
    "decompression_bomb.gif": "decompression bomb",
    "text_not_image.jpg": "not an image of a known format",
    "truncated_image.png": "truncated",
    "truncated_jpeg.jpg": "truncated",
    "zero_byte.jpg": "not an image of a known format",
    "zero_width.gif": "not an image of a known format",
}


@pytest.mark.data
@pytest.mark.parametrize(("name", "reason"), BROKEN.items())
def test_a_broken_image_is_named(name: str, reason: str, shared_data: pathlib.Path) -> None:
    path = shared_data / "bad_images" / name
    with pytest.raises(PretrainError, match=f"{path}: .*{reason}"):
        data.read_rgb(str(path))


@pytest.mark.data
def test_every_other_odd_image_becomes_rgb(shared_data: pathlib.Path) -> None:
    paths = [p for p in (shared_data / "bad_images").iterdir() if p.suffix != ".md" and p.name not in BROKEN]
    assert len(paths) == 12
    for path in paths:
        image = data.read_rgb(str(path))
        assert image.mode == "RGB", path
    assert data.read_rgb(str(shared_data / "bad_images" / "Landscape_6.jpg")).size == (1800, 1200)  # turned upright
    assert data.read_rgb(str(shared_data / "bad_images" / "chi.gif")).size == (320, 240)


def rgb_of(image: Image.Image) -> list[tuple[int, ...]]:
    return [tuple(pixel) for pixel in np.asarray(data.to_rgb(image)).reshape(-1, 3).tolist()]


def test_sixteen_bits_keep_their_high_byte() -> None:
    wide = Image.fromarray(np.array([[0, 255, 256, 32768, 65535]], dtype=np.uint16))
    assert wide.mode == "I;16"
    assert rgb_of(wide) == [(v, v, v) for v in (0, 0, 1, 128, 255)]
    assert rgb_of(Image.fromarray(np.array([[-5, 512, 70000]], dtype=np.int32))) == [(v, v, v) for v in (0, 2, 255)]


def test_floats_are_stretched() -> None:
    assert rgb_of(Image.fromarray(np.array([[-1.0, 0.0, 1.0]], dtype=np.float32))) == [(v, v, v) for v in (0, 127, 255)]
    assert rgb_of(Image.fromarray(np.full((1, 2), 3.0, dtype=np.float32))) == [(0, 0, 0)] * 2


def test_transparency_is_dropped_and_the_colour_below_it_stays() -> None:
    assert rgb_of(Image.new("RGBA", (1, 1), (9, 8, 7, 0))) == [(9, 8, 7)]
    assert rgb_of(Image.new("LA", (1, 1), (9, 0))) == [(9, 9, 9)]
    palette = Image.new("P", (1, 1), 0)
    palette.putpalette([9, 8, 7])
    palette.info["transparency"] = bytes([0])
    assert rgb_of(palette) == [(9, 8, 7)]


def test_cmyk_and_bilevel_follow_pillow() -> None:
    assert rgb_of(Image.new("CMYK", (1, 1), (0, 255, 255, 0))) == [(255, 0, 0)]
    assert rgb_of(Image.new("1", (1, 1), 1)) == [(255, 255, 255)]


@pytest.mark.parametrize(("world", "size", "batch"), [(1, 11, 4), (2, 11, 4), (4, 32, 8)])
def test_ranks_share_out_the_global_batches_of_one_process(world: int, size: int, batch: int) -> None:
    alone = data.EpochSampler(size, batch, seed=3)
    ranks = [data.EpochSampler(size, batch, 3, rank, world) for rank in range(world)]
    orders = []
    for epoch in (0, 1):
        for sampler in (alone, *ranks):
            sampler.epoch = epoch
        together = [[*itertools.chain(*shares)] for shares in zip(*ranks, strict=True)]
        assert together == list(alone)
        assert len(together) == len(alone) == size // batch
        indices = [index for rows in together for at, index in rows if at == epoch]
        assert len(indices) == len(set(indices)) == size // batch * batch  # each at most once, the tail dropped
        orders.append(indices)
    assert orders[0] != orders[1]


def test_too_few_images_for_a_batch_are_refused() -> None:
    with pytest.raises(PretrainError, match=r"optim.batch_size: 16 is more than the 15 images"):
        data.EpochSampler(15, 16, 0)


@pytest.fixture
def copies(pictures: pathlib.Path, tmp_path: pathlib.Path) -> list[str]:
    """Paths of images that a test may damage."""
    shutil.copytree(pictures, tmp_path / "copies")
    return data.find_images(str(tmp_path / "copies"))


def test_a_sample_is_the_same_for_any_number_of_workers_and_ranks(copies: list[str]) -> None:
    view = augment.recipe("v2", 32)
    dataset = data.TwoViews(copies, view, seed=5)
    sampler = data.EpochSampler(len(copies), 4, 5)
    with_workers = data.make_loader(dataset, sampler, workers=2)
    without = data.make_loader(dataset, sampler, workers=0)
    for epoch in (0, 3):
        sampler.epoch = epoch
        batches = [[views.clone() for views in batch] for batch in data.batches(with_workers)]
        assert len(batches) == 2
        for (q, k), (q_alone, k_alone), positions in zip(batches, data.batches(without), sampler, strict=True):
            assert torch.equal(q, q_alone)
            assert torch.equal(k, k_alone)
            for row, (e, index) in enumerate(positions):
                image = data.read_rgb(copies[index])
                expected = augment.two_views(image, view, seed_of("views", 5, e, index))
                assert torch.equal(q[row], expected[0])
                assert torch.equal(k[row], expected[1])


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_is_named_also_from_a_worker(workers: int, copies: list[str]) -> None:
    pathlib.Path(copies[4]).write_text("no image any more")
    dataset = data.TwoViews(copies, augment.recipe("v1", 32), seed=0)
    loader = data.make_loader(dataset, data.EpochSampler(9, 9, 0), workers)
    with pytest.raises(PretrainError) as caught:
        list(data.batches(loader))
    assert str(caught.value) == f"{copies[4]}: not an image of a known format"
