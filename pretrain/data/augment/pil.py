"""A view by Pillow, operation for operation as torchvision's transforms of the published code make it."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter
from torchvision.transforms import functional

from pretrain.data.augment.params import ViewParams

ADJUST: dict[str, Callable[[Image.Image, float], Image.Image]] = {
    "brightness": functional.adjust_brightness,
    "contrast": functional.adjust_contrast,
    "saturation": functional.adjust_saturation,
    "hue": functional.adjust_hue,
    "gray": lambda image, _: functional.rgb_to_grayscale(image, num_output_channels=3),
}


def view(image: Image.Image, draw: ViewParams, size: int) -> npt.NDArray[np.uint8]:
    """Make a view of an image: RGB -> (size, size, 3) uint8."""
    image = functional.resized_crop(image, draw.top, draw.left, draw.height, draw.width, [size, size])
    for operation, amount in draw.colours:
        image = ADJUST[operation](image, amount)
    if draw.sigma:
        image = image.filter(ImageFilter.GaussianBlur(draw.sigma))
    return np.asarray(functional.hflip(image) if draw.flip else image)
