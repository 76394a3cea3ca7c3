"""The precision in which losses and boxes are computed, whatever that of the network's features is."""

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """Return `x` in float32, or as it is where it has more digits.

    Autocast leaves logits and deltas in half precision: 8 significant bits (bfloat16) or 11 (float16). There 1 - p of
    a probability near 1 is lost, a sum of many terms may overflow, and a pixel at the far end of an image is
    rounded to a multiple of 8 or of 1. So every loss, and everything that is in pixels, begins with this.
    """
    return x.to(torch.promote_types(x.dtype, torch.float32))
