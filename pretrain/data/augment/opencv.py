"""A view by torch's and OpenCV's 8-bit operations: several times faster than Pillow, and close to it.

Differences of a pixel from pil.py, of 255, at most / on average over photographs: crop and resize 2 / 0.02; brightness,
contrast 0; saturation, gray 1 / 0.002; hue 7 / 0.2, since OpenCV's HSV is not Pillow's; blur 3 / 0.25.
tests/pretrain/data/augment/test_opencv.py checks each of them.
"""

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import interpolate

from pretrain.data.augment.params import BLUR_PASSES, ViewParams, box_blur_weights, hue_steps

Pixels = npt.NDArray[Any]  # (H, W, 3) uint8 RGB; what OpenCV returns is annotated no narrower

LEVELS = np.arange(256, dtype=np.float32)
TRUNCATE = -0.5 + 1e-3  # OpenCV rounds, Pillow truncates; the thousandth is above the rounding errors of whole numbers


def view(image: Pixels, draw: ViewParams, size: int) -> Pixels:
    """Make a view of an image: (H, W, 3) uint8 -> (size, size, 3) uint8."""
    pixels = crop(image, draw, size)
    for operation, amount in draw.colours:
        pixels = ADJUST[operation](pixels, amount)
    if draw.sigma:
        pixels = blur(pixels, draw.sigma)
    return cv2.flip(pixels, 1) if draw.flip else pixels


def crop(image: Pixels, draw: ViewParams, size: int) -> Pixels:
    """Cut the crop out and resize it with antialiasing: (H, W, 3) uint8 -> (size, size, 3) uint8."""
    part = image[draw.top : draw.top + draw.height, draw.left : draw.left + draw.width]
    batch = torch.from_numpy(part)[None].permute(0, 3, 1, 2)  # (1, 3, h, w), channels last in memory, as the result is
    resized = interpolate(batch, (size, size), mode="bilinear", antialias=True)  # of uint8: in integers
    return resized[0].permute(1, 2, 0).contiguous().numpy()


def brightness(pixels: Pixels, factor: float) -> Pixels:
    return cv2.LUT(pixels, _table(0, factor))


def contrast(pixels: Pixels, factor: float) -> Pixels:
    """Blend with the mean luma, rounded."""
    return cv2.LUT(pixels, _table(int(cv2.mean(_luma(pixels))[0] + 0.5), factor))


def saturation(pixels: Pixels, factor: float) -> Pixels:
    """Blend with the luma of each pixel."""
    return cv2.addWeighted(pixels, factor, gray(pixels), 1 - factor, TRUNCATE)


def hue(pixels: Pixels, turn: float) -> Pixels:
    """Turn the hue by `turn` circles."""
    hsv = cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV_FULL)
    # Pillow truncates to 255 steps; OpenCV rounds to 256 and reads them back as of 255: in all about one step more
    steps = (hue_steps(turn) - 1) % 256
    rows = hsv.reshape(len(hsv), -1)  # a row of bytes is added several times faster than to every third one
    rows += np.tile(np.array([steps, 0, 0], np.uint8), hsv.shape[1])
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL)


def gray(pixels: Pixels, _: float = 0.0) -> Pixels:
    return cv2.cvtColor(_luma(pixels), cv2.COLOR_GRAY2RGB)


def blur(pixels: Pixels, sigma: float) -> Pixels:
    """Blur by Pillow's three boxes, each along rows and columns at once."""
    side = box_blur_weights(sigma)
    box = np.array(side[:0:-1] + side)
    for _ in range(BLUR_PASSES):
        pixels = cv2.sepFilter2D(pixels, -1, box, box, borderType=cv2.BORDER_REPLICATE)
    return pixels


ADJUST = {"brightness": brightness, "contrast": contrast, "saturation": saturation, "hue": hue, "gray": gray}


def _table(base: int, factor: float) -> Pixels:
    """Return Pillow's blend of `base` and each level: float32, cut to 0 to 255, truncated. (256,)"""
    return (base + np.float32(factor) * (LEVELS - base)).clip(0, 255).astype(np.uint8)


def _luma(pixels: Pixels) -> Pixels:
    """Compute the luma, ITU-R 601-2: (H, W, 3) -> (H, W)."""
    return cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
