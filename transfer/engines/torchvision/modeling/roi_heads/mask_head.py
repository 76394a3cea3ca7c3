"""The mask branch of Mask R-CNN (arXiv 1703.06870): the network, its targets, and masks pasted into the image."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from transfer.engines.torchvision.modeling.layers.norm import Conv2d, NormFactory
from transfer.engines.torchvision.modeling.layers.precision import at_least_float32
from transfer.engines.torchvision.modeling.layers.weight_init import init_he, init_normal

_PIXELS_READ_TOGETHER = 2**20  # their coordinates and probabilities take 12 MiB
_PADDING = 2**11  # pixels that are read in vain for a mask, about as costly on a CPU as to read it by itself


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

    The centre of each pixel reads the mask of the box bilinearly, as a grid of M x M cells that fills the box. Masks of
    like sizes are read together, each as if it were alone.

    Args:
        masks: (D, M, M) probabilities.
        boxes: (D, 4) XYXY in pixels of the image.
        size: (height, width) of the image.
        threshold: the smallest probability that counts as object.

    Returns:
        (D, height, width) bool, on the CPU: a hundred masks of 1024 x 2048 would take 200 MB of a GPU.
    """
    pasted = torch.zeros((len(masks), *size), dtype=torch.bool)
    windows = _windows(boxes, size)
    for batch in _like_windows(windows):
        corners = boxes.new_tensor([windows[i][:2] for i in batch])  # (B, 2) top, left
        extent = (max(windows[i][2] - windows[i][0] for i in batch), max(windows[i][3] - windows[i][1] for i in batch))
        index = torch.tensor(batch, device=masks.device)
        inside = (_sample(masks[index], boxes[index], corners, extent) >= threshold).cpu()  # (B, h, w)
        for i, own in zip(batch, inside, strict=True):
            top, left, bottom, right = windows[i]
            pasted[i, top:bottom, left:right] = own[: bottom - top, : right - left]
    return pasted


def _windows(boxes: Tensor, size: tuple[int, int]) -> list[tuple[int, int, int, int]]:
    """Return (top, left, bottom, right) in pixels of what each box (D, 4) can reach: itself and a pixel around it."""
    height, width = size
    begin, end = (boxes[:, :2].floor() - 1).clamp(min=0), boxes[:, 2:].ceil() + 1
    return [
        (int(top), int(left), min(int(bottom), height), min(int(right), width))
        for left, top, right, bottom in torch.cat((begin, end), dim=1).tolist()  # one wait for all
    ]


def _like_windows(windows: Sequence[tuple[int, int, int, int]]) -> Iterator[list[int]]:
    """Yield the indices of windows that are read together: of like sizes, since they are padded to one size."""
    sides = [(bottom - top, right - left) for top, left, bottom, right in windows]
    batch: list[int] = []
    height = width = pixels = 0  # the largest sides and the sum of the pixels in the batch
    for i in sorted(range(len(sides)), key=lambda i: (sides[i][0].bit_length(), sides[i][1])):
        own = sides[i][0] * sides[i][1]
        taller, wider = max(height, sides[i][0]), max(width, sides[i][1])
        together = len(batch) + 1
        padded = together * taller * wider
        if batch and padded > min(pixels + own + together * _PADDING, _PIXELS_READ_TOGETHER):
            yield batch
            batch, pixels, (taller, wider) = [], 0, sides[i]
        batch.append(i)
        height, width, pixels = taller, wider, pixels + own
    if batch:
        yield batch


def _sample(masks: Tensor, boxes: Tensor, corners: Tensor, extent: tuple[int, int]) -> Tensor:
    """Read masks (B, M, M) of `boxes` (B, 4) at the centres of the pixels from `corners` (B, 2) on: (B, *extent)."""
    left, top, right, bottom = boxes[:, :, None].unbind(dim=1)  # (B, 1) each
    y = torch.arange(extent[0], device=masks.device) + corners[:, :1] + 0.5  # (B, h)
    x = torch.arange(extent[1], device=masks.device) + corners[:, 1:] + 0.5  # (B, w)
    y = (y - top) / (bottom - top) * 2 - 1  # -1 and 1 are the edges of the box
    x = (x - left) / (right - left) * 2 - 1
    across, down = x[:, None, :].expand(-1, extent[0], -1), y[:, :, None].expand(-1, -1, extent[1])
    grid = torch.stack((across, down), dim=-1)  # (B, h, w, 2)
    return F.grid_sample(masks[:, None], grid.to(masks.dtype), align_corners=False)[:, 0]
