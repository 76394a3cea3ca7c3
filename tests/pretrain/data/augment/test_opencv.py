"""The distance of the fast pipeline's pixels from Pillow's: the bounds that docs/guides/images.md states."""

import itertools
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from pretrain.data.augment import opencv, params, pil
from pretrain.data.augment import recipe as augment
from pretrain.data.augment.params import ViewParams
from tests.support.pretrain.pictures import checkerboard, noise, photographs, scene

# operation: of 255, at most for any colours, on average over the pictures
BOUNDS = {
    "crop": (2, 0.03),
    "brightness": (0, 0),
    "contrast": (1, 0.001),
    "saturation": (1, 0.003),
    "gray": (1, 0.003),
    "hue": (7, 0.3),
    "blur": (3, 0.3),
    "view": (20, 0.4),
}


def pictures() -> list[Image.Image]:
    return [scene(), scene(333, 500, seed=1), noise(300, 200), *photographs(8)]


def whole(size: int, **changes: object) -> ViewParams:
    """The whole of a square image, with nothing done to it but the changes."""
    return ViewParams(0, 0, size, size, (), 0.0, False)._replace(**changes)


def check(name: str, pairs: list[tuple[np.ndarray, np.ndarray]]) -> None:
    differences = [np.abs(mine.astype(int) - theirs.astype(int)) for mine, theirs in pairs]
    most, mean = max(map(np.max, differences)), np.mean([*map(np.mean, differences)])
    if not photographs(1):  # then noise, of which there is little in pictures, decides the average
        mean = 0
    assert (most <= BOUNDS[name][0], mean <= BOUNDS[name][1]) == (True, True), (name, most, mean)


def test_crops_are_pillows() -> None:
    uniform, recipe = random.Random(0).random, augment.recipe("v2")
    pairs = []
    for image, _ in itertools.product(pictures(), range(4)):
        draw = ViewParams(*params.draw_crop(recipe, image.height, image.width, uniform), (), 0.0, False)
        pairs.append((opencv.crop(np.array(image), draw, 224), pil.view(image, draw, 224)))
    check("crop", pairs)


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation", "hue", "gray"])
def test_each_operation_is_near_pillows(name: str) -> None:
    limits = (-0.4, 0.4) if name == "hue" else (0.6, 1.4)
    pairs = []
    for image in pictures():
        image = image.resize((160, 160))
        for amount in np.linspace(*limits, 9).tolist():
            made = opencv.ADJUST[name](np.array(image), amount)
            pairs.append((made, np.asarray(pil.ADJUST[name](image, amount))))
    check(name, pairs)


def test_the_blur_is_near_pillows_to_the_edge() -> None:
    pairs = []
    for image in pictures():
        image = image.resize((160, 160))
        for sigma in (0.1, 0.3, 0.7, 1.0, 1.41, 1.5, 2.0):
            blurred = opencv.blur(np.array(image), sigma)
            pairs.append((blurred, np.asarray(image.filter(ImageFilter.GaussianBlur(sigma)))))
    check("blur", pairs)


@pytest.mark.parametrize("name", ["v1", "v2"])
def test_whole_views_are_near_pillows(name: str) -> None:
    uniform, recipe = random.Random(0).random, augment.recipe(name)
    pairs = []
    for image, _ in itertools.product(pictures(), range(5)):
        draw = params.draw_view(recipe, image.height, image.width, uniform)
        pairs.append((opencv.view(np.array(image), draw, 160), pil.view(image, draw, 160)))
    check("view", pairs)


def test_the_bounds_hold_for_all_colours() -> None:
    """A million of them, all of blue among them."""
    red, green, blue = np.meshgrid(np.arange(0, 256, 5), np.arange(0, 256, 3), np.arange(256), indexing="ij")
    colours = np.stack([red, green, blue], -1).reshape(-1, 256, 3).astype(np.uint8)
    image = Image.fromarray(colours)
    for name, amounts in (("hue", (-0.4, -0.06, 0.0, 0.1, 0.33)), ("saturation", (0.6, 0.9, 1.3)), ("gray", (0.0,))):
        for amount in amounts:
            made = opencv.ADJUST[name](colours, amount).astype(int)
            difference = np.abs(made - np.asarray(pil.ADJUST[name](image, amount)))
            assert difference.max() <= BOUNDS[name][0], (name, amount)


def test_tables_are_pillows_blend_for_all_levels_and_factors() -> None:
    levels = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    for factor in np.random.default_rng(0).uniform(0.6, 1.4, 300).tolist():
        for name in ("brightness", "contrast"):
            theirs = pil.ADJUST[name](Image.fromarray(levels), factor)
            assert np.array_equal(opencv.ADJUST[name](levels, factor), np.asarray(theirs))


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 50), (50, 1), (2, 3), (3000, 20), (20, 3000)])
def test_odd_images_have_views_too(width: int, height: int) -> None:
    image, uniform, recipe = noise(width, height), random.Random(0).random, augment.recipe("v2")
    for _ in range(20):
        draw = params.draw_view(recipe, height, width, uniform)
        made, expected = opencv.view(np.array(image), draw, 48), pil.view(image, draw, 48)
        assert made.shape == expected.shape == (48, 48, 3)
        assert np.abs(made.astype(int) - expected).max() <= BOUNDS["view"][0]


@pytest.mark.parametrize("view", [opencv.view, opencv.crop])
def test_a_pattern_that_is_too_fine_shrinks_to_gray(view) -> None:
    """Antialiased: without, a checkerboard gives black and white in waves (moire)."""
    for width, height in ((640, 480), (333, 501)):
        draw = ViewParams(0, 0, height, width, (), 0.0, False)
        shrunk = view(np.array(checkerboard(width, height)), draw, 64).astype(int)
        assert np.abs(shrunk[2:-2, 2:-2] - 127.5).max() < 5


amounts = st.fixed_dictionaries(
    {name: st.floats(0.6, 1.4) for name in ("brightness", "contrast", "saturation")} | {"hue": st.floats(-0.4, 0.4)}
)


@given(data=st.data(), seed=st.integers(0, 99), sigma=st.one_of(st.just(0.0), st.floats(0.1, 2)), flip=st.booleans())
def test_any_draw_gives_a_view_near_pillows(data: st.DataObject, seed: int, sigma: float, flip: bool) -> None:
    """On noise, which is harder than photographs."""
    width, height = data.draw(st.integers(1, 60)), data.draw(st.integers(1, 60))
    h, w = data.draw(st.integers(1, height)), data.draw(st.integers(1, width))
    top, left = data.draw(st.integers(0, height - h)), data.draw(st.integers(0, width - w))
    steps = data.draw(st.permutations([*data.draw(amounts).items(), ("gray", 0.0)]))
    draw = ViewParams(top, left, h, w, tuple(steps[: data.draw(st.integers(0, 5))]), sigma, flip)
    image = noise(width, height, seed)
    made, expected = opencv.view(np.array(image), draw, 24), pil.view(image, draw, 24)
    difference = np.abs(made.astype(int) - expected)
    assert difference.max() <= 40
    assert difference.mean() < 6
