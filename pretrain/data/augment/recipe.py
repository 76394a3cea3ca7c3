"""The published augmentations of MoCo v1 (arXiv 1911.05722, section 3.3) and v2 (arXiv 2003.04297): their numbers.

The random parameters of a view are in params.py, their effect on pixels in pil.py, opencv.py and gpu.py. Views leave as
uint8, a quarter of the bytes on the way from the loader; models/normalize.py does the rest.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """The distribution of views. Probabilities are of a view; factors and the turn of the hue are drawn uniformly."""

    size: int  # side of a view, pixels
    crop_scale: tuple[float, float]  # smallest and largest share of the image that a crop covers
    gray_first: bool  # grayscale before the jitter (v1) or after it (v2)
    jitter: float  # probability of the colour jitter
    hue: float  # largest turn of the hue either way, in circles
    blur: float  # probability of the blur
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)  # narrowest and widest crop, width / height
    factor: tuple[float, float] = (0.6, 1.4)  # of brightness, contrast and saturation
    gray: float = 0.2  # probability of grayscale
    sigma: tuple[float, float] = (0.1, 2.0)  # of the blur, as in SimCLR, pixels
    flip: float = 0.5  # probability of the horizontal flip


def recipe(name: str, size: int = 224, crop_scale: tuple[float, float] = (0.2, 1.0)) -> Recipe:
    """Return recipe `v1` (crop, gray, jitter, flip) or `v2` (crop, jitter, gray, blur, flip), in the published orders.

    Args:
        size: side of the view in pixels.
        crop_scale: smallest and largest share of the image that a crop covers.
    """
    return {
        "v1": Recipe(size, crop_scale, gray_first=True, jitter=1.0, hue=0.4, blur=0.0),
        "v2": Recipe(size, crop_scale, gray_first=False, jitter=0.8, hue=0.1, blur=0.5),
    }[name]
