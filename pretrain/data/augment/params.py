"""The random parameters of a view, drawn once for all pipelines, so that these differ only in pixel arithmetic."""

import math
import random
from collections.abc import Callable
from typing import NamedTuple

from pretrain.data.augment.recipe import Recipe

Uniform = Callable[[], float]  # a float of [0, 1), another one at each call

BLUR_PASSES = 3  # boxes after each other, for one Gaussian
ATTEMPTS = 10  # at a crop that fits, as torchvision's RandomResizedCrop makes them
OPERATIONS = ("brightness", "contrast", "saturation", "hue", "gray")  # amount: a factor; of hue circles; of gray 0


class ViewParams(NamedTuple):
    """The parameters of one view of one image."""

    top: int  # the crop, pixels of the image
    left: int
    height: int
    width: int
    colours: tuple[tuple[str, float], ...]  # (one of OPERATIONS, amount), each at most once
    sigma: float  # of the blur, pixels; 0: none
    flip: bool


def draw_two_views(recipe: Recipe, height: int, width: int, seed: int) -> tuple[ViewParams, ViewParams]:
    """Draw the parameters of the query and the key view of an image.

    Args:
        recipe: the distribution of the views.
        height, width: of the image, pixels.
        seed: of 64 bits; the same seed gives the same views.
    """
    # Python promises the same numbers of random() for a seed in every version; seven times faster than torch's draws.
    uniform = random.Random(seed % 2**64).random
    return draw_view(recipe, height, width, uniform), draw_view(recipe, height, width, uniform)


def draw_view(recipe: Recipe, height: int, width: int, uniform: Uniform) -> ViewParams:
    """Draw the parameters of one view of an image of `height` x `width` pixels, as torchvision's transforms do."""
    crop = draw_crop(recipe, height, width, uniform)
    jitter = _jitter(recipe, uniform) if uniform() < recipe.jitter else ()
    gray: tuple[tuple[str, float], ...] = (("gray", 0.0),) if uniform() < recipe.gray else ()
    colours = gray + jitter if recipe.gray_first else jitter + gray
    sigma = _between(recipe.sigma, uniform) if uniform() < recipe.blur else 0.0
    return ViewParams(*crop, colours, sigma, flip=uniform() < recipe.flip)


def draw_crop(recipe: Recipe, height: int, width: int, uniform: Uniform) -> tuple[int, int, int, int]:
    """Draw top, left, height and width of a crop, in pixels: uniform in area and in the logarithm of width / height.

    Where none of ATTEMPTS fits: the largest crop in the middle that is neither too narrow nor too wide.
    """
    narrowest, widest = recipe.crop_ratio
    for _ in range(ATTEMPTS):
        area = height * width * _between(recipe.crop_scale, uniform)
        ratio = math.exp(_between((math.log(narrowest), math.log(widest)), uniform))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return int(uniform() * (height - h + 1)), int(uniform() * (width - w + 1)), h, w
    w = min(width, round(height * widest))
    h = min(height, round(width / narrowest))
    return (height - h) // 2, (width - w) // 2, h, w


def hue_steps(turn: float) -> int:
    """Convert a turn in circles to whole steps of Pillow's 8-bit hue, as torchvision's adjust_hue cuts it."""
    return int(turn * 255)


def box_blur_weights(sigma: float) -> list[float]:
    """Return the weights of a box blur, three of which in a row make Pillow's GaussianBlur of `sigma` pixels.

    The boxes have ends of less weight, so that their variance is that of the Gaussian (Gwosdek and others, "Theoretical
    foundations of Gaussian convolution by extended box filtering", SSVM 2011).

    Returns the weights at distance 0, 1, ... on either side.
    """
    variance = sigma**2 / BLUR_PASSES
    whole = math.floor((math.sqrt(12 * variance + 1) - 1) / 2)  # equations 7 and 11
    part = (2 * whole + 1) * (whole * (whole + 1) - 3 * variance) / (6 * (variance - (whole + 1) ** 2))  # equation 14
    inner = 1 / (2 * (whole + part) + 1)
    return [inner] * (whole + 1) + [part * inner]


def _jitter(recipe: Recipe, uniform: Uniform) -> tuple[tuple[str, float], ...]:
    """Draw the four operations of torchvision's ColorJitter, in random order."""
    steps = [(name, _between(recipe.factor, uniform)) for name in ("brightness", "contrast", "saturation")]
    steps.append(("hue", _between((-recipe.hue, recipe.hue), uniform)))
    for last in range(len(steps) - 1, 0, -1):  # Fisher-Yates: random.shuffle's numbers may change with Python's version
        other = int(uniform() * (last + 1))
        steps[last], steps[other] = steps[other], steps[last]
    return tuple(steps)


def _between(limits: tuple[float, float], uniform: Uniform) -> float:
    low, high = limits
    return low + (high - low) * uniform()
