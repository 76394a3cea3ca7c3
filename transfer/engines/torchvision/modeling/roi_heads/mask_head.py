"""The mask branch of Mask R-CNN (arXiv 1703.06870): the network, its targets, and masks pasted into the image."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from transfer.engines.torchvision.modeling.layers.norm import Conv2d, NormFactory
from transfer.engines.torchvision.modeling.layers.precision import at_least_float32
from transfer.engines.torchvision.modeling.layers.weight_init import init_he, init_normal


class MaskHead(nn.Sequential):
    """A stack of convolutions (mask_fcn1, ...), then a doubling of the resolution: one mask for each class.

    Called with the features of regions (R, channels, M, M), it returns logits (R, num_masks, 2 M, 2 M).

    Args:
        channels: of a region's features.
        width: channels of every hidden layer.
        num_convs: convolutions before the doubling; 0 for C4.
        num_masks: the number of classes, or 1 if the masks are class-agnostic.
        norm: makes the norm layer of a convolution; None: it has a bias instead.
    """

    def __init__(
        self, channels: int, width: int, num_convs: int, num_masks: int, norm: NormFactory | None = None
    ) -> None:
        super().__init__()
        for i in range(1, num_convs + 1):
            conv = Conv2d(channels, width, 3, norm, relu=True)
            init_he(conv)
            self.add_module(f"mask_fcn{i}", conv)
            channels = width
        self.deconv = nn.ConvTranspose2d(channels, width, 2, stride=2)
        init_he(self.deconv)
        self.deconv_relu = nn.ReLU()
        self.predictor = nn.Conv2d(width, num_masks, 1)  # (R, num_masks, 2 M, 2 M) logits
        init_normal(self.predictor, 0.001)


def select_class_masks(logits: Tensor, classes: Tensor) -> Tensor:
    """Select the mask of each region's class: masks (R, K, M, M), classes (R,) -> (R, M, M). K = 1: the only mask."""
    if logits.shape[1] == 1:
        return logits[:, 0]
    return logits[torch.arange(len(classes), device=classes.device), classes]


def mask_loss(logits: Tensor, classes: Tensor, targets: Tensor) -> Tensor:
    """Compute the mean cross entropy over the pixels of each region's mask of its own class.

    Args:
        logits: (R, K, M, M).
        classes: (R,) true classes; no background.
        targets: (R, M, M) bool true masks.

    Returns:
        () the loss; 0 without regions.
    """
    if len(classes) == 0:
        return logits.sum() * 0  # keeps every parameter in the graph, as DDP needs it
    wide = at_least_float32(select_class_masks(logits, classes))
    return F.binary_cross_entropy_with_logits(wide, targets.to(wide.dtype))


def paste_masks(masks: Tensor, boxes: Tensor, size: tuple[int, int], threshold: float = 0.5) -> Tensor:
    """Paste predicted masks into the image, each where its box lies.

    The centre of each pixel reads the mask of the box bilinearly, as a grid of M x M cells that fills the box.

    Args:
        masks: (D, M, M) probabilities.
        boxes: (D, 4) XYXY in pixels of the image.
        size: (height, width) of the image.
        threshold: the smallest probability that counts as object.

    Returns:
        (D, height, width) bool, on the CPU: a hundred masks of 1024 x 2048 would take 200 MB of a GPU.
    """
    height, width = size
    pasted = torch.zeros((len(masks), height, width), dtype=torch.bool)
    for target, mask, box in zip(pasted, masks, boxes, strict=True):
        # Nothing reaches the threshold beyond the box and a pixel around it.
        left, top = (int(side) for side in (box[:2].floor() - 1).clamp(min=0))
        right, bottom = min(int(box[2].ceil()) + 1, width), min(int(box[3].ceil()) + 1, height)
        inside = _sample(mask, box, (top, bottom), (left, right)) >= threshold
        target[top:bottom, left:right] = inside.cpu()
    return pasted


def _sample(mask: Tensor, box: Tensor, rows: Sequence[int], columns: Sequence[int]) -> Tensor:
    """Read the mask (M, M) of `box` at the centres of a rectangle of pixels of the image: (rows, columns)."""
    y = torch.arange(*rows, device=mask.device, dtype=torch.float32) + 0.5
    x = torch.arange(*columns, device=mask.device, dtype=torch.float32) + 0.5
    y = (y - box[1]) / (box[3] - box[1]) * 2 - 1  # -1 and 1 are the edges of the box
    x = (x - box[0]) / (box[2] - box[0]) * 2 - 1
    grid = torch.stack((x[None, :].expand(len(y), -1), y[:, None].expand(-1, len(x))), dim=-1)  # (rows, columns, 2)
    return F.grid_sample(mask[None, None], grid[None].to(mask.dtype), align_corners=False)[0, 0]
