"""On the device: Pillow's pixels to the bit, each sample by its own draw."""

import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torchvision.transforms import functional

from pretrain.data.augment import gpu, params, pil, recipe
from pretrain.data.augment.params import ViewParams
from pretrain.engine import kernels
from tests.support.pretrain.pictures import noise, photographs, scene

NOTHING = ViewParams(0, 0, 1, 1, (), 0.0, False)


def on_device(images: list[Image.Image], views: list[ViewParams], device: str = "cpu") -> np.ndarray:
    """(N, S, S, 3) of images of one size, as crops."""
    crops = torch.stack([torch.from_numpy(np.array(image)) for image in images]).permute(0, 3, 1, 2)
    rows = torch.tensor([gpu.encode(view) for view in views])
    return gpu.augment_batch(crops.to(device), rows.to(device)).permute(0, 2, 3, 1).cpu().numpy()


def by_pillow(image: Image.Image, view: ViewParams) -> np.ndarray:
    """The same on a crop that is made already."""
    return pil.view(image, view._replace(top=0, left=0, height=image.height, width=image.width), image.width)


def drawn(number: int, name: str, seed: int = 0) -> list[ViewParams]:
    uniform = random.Random(seed).random
    return [params.draw_view(recipe.recipe(name), 80, 80, uniform) for _ in range(number)]


def crops(size: int) -> list[Image.Image]:
    return [image.resize((size, size)) for image in (scene(), scene(seed=1), noise(), *photographs(6))]


@pytest.mark.parametrize("name", ["v1", "v2"])
def test_views_are_pillows_to_the_bit(name: str) -> None:
    images = crops(80)
    views = drawn(60, name)
    chosen = [images[number % len(images)] for number in range(60)]
    for image, view, made in zip(chosen, views, on_device(chosen, views), strict=True):
        assert np.array_equal(made, by_pillow(image, view)), view


def test_all_colours_turn_as_pillows() -> None:
    """A million of them, all of blue among them."""
    red, green, blue = np.meshgrid(np.arange(0, 256, 5), np.arange(0, 256, 3), np.arange(256), indexing="ij")
    colours = np.stack([red, green, blue], -1).reshape(-1, 256, 3).astype(np.uint8)
    image = Image.fromarray(colours)
    for turn in (-0.4, -0.06, 0.0, 0.1, 0.33):
        made = on_device([image], [NOTHING._replace(colours=(("hue", turn),))])
        assert np.array_equal(made[0], np.asarray(functional.adjust_hue(image, turn)))


amounts = st.fixed_dictionaries(
    {name: st.floats(0.6, 1.4) for name in ("brightness", "contrast", "saturation")} | {"hue": st.floats(-0.5, 0.5)}
)


@given(
    amounts=amounts,
    order=st.permutations(("brightness", "contrast", "saturation", "hue", "gray")),
    steps=st.integers(0, 5),
    sigma=st.one_of(st.just(0.0), st.floats(0.1, 2)),
    flip=st.booleans(),
    seed=st.integers(0, 99),
    size=st.integers(1, 40),
)
def test_any_draw_gives_pillows_view(
    amounts: dict[str, float], order: list[str], steps: int, sigma: float, flip: bool, seed: int, size: int
) -> None:
    view = NOTHING._replace(
        colours=tuple((name, amounts.get(name, 0.0)) for name in order[:steps]), sigma=sigma, flip=flip
    )
    image = noise(size, size, seed)
    difference = on_device([image], [view])[0].astype(int) - by_pillow(image, view)
    # Pillow's weights have 24 bits, ours are float32. It shows where a blur falls between two levels, as it often does
    # at a sigma of 1, where the weights are 1/6, 4/6, 1/6; sigmas that are drawn are no such numbers.
    assert np.abs(difference).max() <= (3 if sigma else 0)


def test_each_sample_depends_on_its_own_draw_alone() -> None:
    images, views = crops(40) * 3, drawn(3 * len(crops(40)), "v2")
    together = on_device(images, views)
    order = random.Random(0).sample(range(len(views)), len(views))
    mixed = on_device([images[i] for i in order], [views[i] for i in order])
    for place, number in enumerate(order):
        alone = on_device([images[number]], [views[number]])
        assert np.array_equal(alone[0], together[number])
        assert np.array_equal(mixed[place], together[number])


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_layout_stays_and_the_crops_too(layout: torch.memory_format) -> None:
    crop = torch.randint(0, 256, (4, 3, 20, 20), dtype=torch.uint8).contiguous(memory_format=layout)
    rows = torch.tensor([gpu.encode(view) for view in drawn(4, "v2")])
    before = crop.clone()
    made = gpu.augment_batch(crop, rows)
    assert made.is_contiguous(memory_format=layout)
    assert made.dtype == torch.uint8
    assert torch.equal(crop, before)
    assert not torch.equal(made, crop)


def test_views_that_are_whole_pass_untouched() -> None:
    crop = torch.randint(0, 256, (4, 3, 20, 20), dtype=torch.uint8)
    assert gpu.augment_batch(crop, torch.empty(4, 0)) is crop


def test_a_wide_blur_is_refused_and_not_cut_off() -> None:
    with pytest.raises(ValueError, match="sigma"):
        gpu.encode(NOTHING._replace(sigma=2.6))


def compiled_differences(device: str) -> Tensor:
    """By how many grey levels each pixel of compiled views differs from eager ones."""
    images, views = crops(40) * 4, drawn(4 * len(crops(40)), "v2")
    crop = torch.stack([torch.from_numpy(np.array(image)) for image in images]).permute(0, 3, 1, 2).contiguous()
    rows = torch.tensor([gpu.encode(view) for view in views])
    crop, rows = crop.to(device), rows.to(device)
    made = kernels.compile_exactly(gpu.augment_batch)(crop, rows)
    assert not torch.equal(made, crop)
    return made.int() - gpu.augment_batch(crop, rows).int()


@pytest.mark.slow
@pytest.mark.skipif(bool(kernels.compiler_fault(torch.device("cpu"))), reason="torch.compile lacks something here")
def test_compiled_views_are_within_one_grey_level() -> None:
    """In one graph: no part of it looks at a value on the host. Found on a CPU: no pixel differs."""
    assert compiled_differences("cpu").abs().max() <= 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu_compiled_views_are_within_one_grey_level() -> None:
    """Divisions and sums are rounded as the eager kernels round them, so that no pixel should differ at all."""
    assert compiled_differences("cuda").abs().max() <= 1


@pytest.mark.gpu
def test_a_gpu_makes_the_same_and_nothing_waits_for_it() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    images, views = crops(80), drawn(len(crops(80)), "v2")
    made = on_device(images, views, "cuda")
    difference = np.abs(made.astype(int) - on_device(images, views))
    assert difference.max() <= 1
    crop = torch.zeros(2, 3, 80, 80, dtype=torch.uint8, device="cuda")
    rows: Tensor = torch.tensor([gpu.encode(view) for view in views[:2]]).cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        gpu.augment_batch(crop, rows)
    finally:
        torch.cuda.set_sync_debug_mode("default")
