"""Mask R-CNN's mask branch (arXiv 1703.06870): the network, its targets, and masks pasted into the image."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pycocotools.mask
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import roi_align

from transfer.engines.torchvision.modeling.backbone.norm import Conv2d, NormFactory
from transfer.engines.torchvision.modeling.weight_init import init_he, init_normal

Polygons = list[np.ndarray]  # the outlines of one object, each (2 P,) float64: x, y, x, y, ...


class MaskHead(nn.Sequential):
    """Convolutions (mask_fcn1, ...), a doubling of the resolution, one mask a class.

    Args:
        channels: of a region's features.
        width: channels of every hidden layer.
        num_convs: how many convolutions come before the doubling; 0 for C4.
        num_masks: of classes, or 1 if the masks are class-agnostic.
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


def of_class(logits: Tensor, classes: Tensor) -> Tensor:
    """Of the masks (R, K, M, M) of each region that of its class (R,): (R, M, M). With K 1 the only one."""
    if logits.shape[1] == 1:
        return logits[:, 0]
    return logits[torch.arange(len(classes), device=classes.device), classes]


def mask_loss(logits: Tensor, classes: Tensor, targets: Tensor) -> Tensor:
    """Mean cross entropy of the mask of each region's own class.

    Args:
        logits: (R, K, M, M).
        classes: (R,), of objects only.
        targets: (R, M, M) bool.
    """
    if len(classes) == 0:
        return logits.sum() * 0  # keeps every parameter in the graph, as DDP needs it
    return F.binary_cross_entropy_with_logits(of_class(logits, classes), targets.to(logits.dtype))


@dataclass(frozen=True)
class PolygonMasks:
    """Outlines of the objects of one image (INPUT.MASK_FORMAT polygon)."""

    objects: list[Polygons]

    def crop(self, index: Tensor, boxes: Tensor, size: int) -> Tensor:
        """The masks of objects `index` (B,) within `boxes` (B, 4), each (size, size) cells: (B, size, size) bool."""
        cropped = [
            _rasterise_within(self.objects[i], box, size)
            for i, box in zip(index.tolist(), boxes.cpu().numpy(), strict=True)
        ]
        if not cropped:
            return torch.zeros((0, size, size), dtype=torch.bool, device=boxes.device)
        return torch.from_numpy(np.stack(cropped)).to(boxes.device)


@dataclass(frozen=True)
class BitMasks:
    """Masks (G, H, W) bool of the objects of one image (INPUT.MASK_FORMAT bitmask)."""

    masks: Tensor

    def crop(self, index: Tensor, boxes: Tensor, size: int) -> Tensor:
        """As PolygonMasks.crop; a cell belongs to the object when half of it or more does."""
        rois = torch.cat((index[:, None].to(boxes.dtype), boxes), dim=1).to(self.masks.device)  # (B, 5)
        coverage = roi_align(self.masks[:, None].float(), rois, (size, size), 1.0, 0, aligned=True)[:, 0]
        return (coverage >= 0.5).to(boxes.device)


Masks = PolygonMasks | BitMasks


def rasterise(polygons: Polygons, height: int, width: int) -> np.ndarray:
    """The mask (height, width) bool that COCO's rasteriser fills of the outlines of one object."""
    if not polygons:
        return np.zeros((height, width), dtype=bool)
    runs = pycocotools.mask.frPyObjects([outline.tolist() for outline in polygons], height, width)
    return pycocotools.mask.decode(pycocotools.mask.merge(runs)).astype(bool)


def _rasterise_within(polygons: Polygons, box: np.ndarray, size: int) -> np.ndarray:
    """The mask of one object within `box` (4,) XYXY, drawn at the resolution of the target."""
    left, top, right, bottom = box
    scale_x, scale_y = size / max(right - left, 0.1), size / max(bottom - top, 0.1)
    moved = []
    for outline in polygons:
        points = outline.copy()
        points[0::2] = (points[0::2] - left) * scale_x
        points[1::2] = (points[1::2] - top) * scale_y
        moved.append(points)
    return rasterise(moved, size, size)


def paste(masks: Tensor, boxes: Tensor, size: tuple[int, int], threshold: float = 0.5) -> Tensor:
    """Put mask probabilities (D, M, M) where their boxes (D, 4) lie in an image of `size`: (D, height, width) bool.

    Each pixel's centre reads its box's mask bilinearly, as a grid of M x M cells that fills the box.
    """
    height, width = size
    pasted = torch.zeros((len(masks), height, width), dtype=torch.bool, device=masks.device)
    for target, mask, box in zip(pasted, masks, boxes, strict=True):
        # Beyond the box and a pixel around it nothing reaches the threshold.
        left, top = (int(side) for side in (box[:2].floor() - 1).clamp(min=0))
        right, bottom = min(int(box[2].ceil()) + 1, width), min(int(box[3].ceil()) + 1, height)
        target[top:bottom, left:right] = _sample(mask, box, (top, bottom), (left, right)) >= threshold
    return pasted


def _sample(mask: Tensor, box: Tensor, rows: Sequence[int], columns: Sequence[int]) -> Tensor:
    """The mask (M, M) of `box` at the centres of some pixels of the image: (rows, columns)."""
    y = torch.arange(*rows, device=mask.device, dtype=torch.float32) + 0.5
    x = torch.arange(*columns, device=mask.device, dtype=torch.float32) + 0.5
    y = (y - box[1]) / (box[3] - box[1]) * 2 - 1  # -1 and 1 are the edges of the box
    x = (x - box[0]) / (box[2] - box[0]) * 2 - 1
    grid = torch.stack((x[None, :].expand(len(y), -1), y[:, None].expand(-1, len(x))), dim=-1)  # (rows, columns, 2)
    return F.grid_sample(mask[None, None], grid[None].to(mask.dtype), align_corners=False)[0, 0]
