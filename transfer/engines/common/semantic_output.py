"""The output of semantic segmentation: logits on the pixels' grid, the loss, and the class of each pixel."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from transfer.data.common.images import read_record_image
from transfer.engines.common.semantic_input import SemanticInput, padded_image
from transfer.predictions import LabelMap

HEAD_CHANNELS, HEAD_DILATION = 256, 6  # of the head's two 3x3 convolutions (MoCo v1, appendix A.5)


def upsampled(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Interpolate logits (N, K, h, w) to pixels (N, K, *size), the corners of both on each other.

    In float32 at least, whatever the precision of the features.
    """
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return F.interpolate(wide, size, mode="bilinear", align_corners=True)


def semantic_loss(logits: Tensor, labels: Tensor, ignored: int) -> Tensor:
    """Return the cross entropy of logits that are upsampled to the labels, a mean over the pixels that have a class.

    Args:
        logits: (N, K, h, w).
        labels: (N, H, W) int64, 0 to K - 1 or `ignored`.

    Returns:
        (), 0 where no pixel has a class.
    """
    pixels = upsampled(logits, (labels.shape[-2], labels.shape[-1]))
    counted = (labels != ignored).sum().clamp(min=1)
    return F.cross_entropy(pixels, labels, ignore_index=ignored, reduction="sum") / counted


def read_test_image(record: Mapping[str, Any]) -> Tensor:
    """Read the image of a record as `segment_images` takes it: (H, W, 3) uint8 RGB. Raises as `read_record_image`."""
    return torch.from_numpy(np.ascontiguousarray(read_record_image(record)))


def segment_images(
    images: Sequence[Tensor],
    settings: SemanticInput,
    network: Callable[[Tensor], Tensor],
    keep_logits: bool,
) -> list[LabelMap]:
    """Predict the class of each pixel of images, which are run one by one in their own size.

    Args:
        images: of `read_test_image`.
        network: a padded image (3, H', W') float32 -> its upsampled logits (K, H', W').
        keep_logits: return the logits, too, on the CPU.
    """
    found = []
    for image in images:
        height, width = image.shape[:2]
        logits = network(padded_image(image.numpy(), settings))[:, :height, :width]  # (K, H, W)
        classes = logits.argmax(dim=0).to(torch.uint8).cpu()
        found.append(LabelMap(classes, logits.float().cpu().contiguous() if keep_logits else None))
    return found
