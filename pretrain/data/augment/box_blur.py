"""Pillow's GaussianBlur: not a Gaussian but three box blurs after each other, along the rows and then the columns.

The boxes have ends of less weight, so that their variance is that of the Gaussian (Gwosdek and others, "Theoretical
foundations of Gaussian convolution by extended box filtering", SSVM 2011).
"""

import math

PASSES = 3


def weights(sigma: float) -> list[float]:
    """Weights of the box of one pass, for a Gaussian of `sigma` pixels: those at distance 0, 1, ... on either side."""
    variance = sigma**2 / PASSES
    whole = math.floor((math.sqrt(12 * variance + 1) - 1) / 2)  # equations 7 and 11
    part = (2 * whole + 1) * (whole * (whole + 1) - 3 * variance) / (6 * (variance - (whole + 1) ** 2))  # equation 14
    inner = 1 / (2 * (whole + part) + 1)
    return [inner] * (whole + 1) + [part * inner]
