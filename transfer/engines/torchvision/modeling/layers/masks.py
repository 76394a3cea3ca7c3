"""The ground-truth masks, as polygons or as bitmaps, cropped to what the mask head is trained on."""

from dataclasses import dataclass

import numpy as np
import pycocotools.mask
import torch
from torch import Tensor
from torchvision.ops import roi_align

Polygons = list[np.ndarray]  # the outlines of one object, each (2 P,) float64: x, y, x, y, ...


@dataclass(frozen=True)
class PolygonMasks:
    """The outlines of the objects of one image (INPUT.MASK_FORMAT polygon)."""

    objects: list[Polygons]

    def crop(self, index: Tensor, boxes: Tensor, size: int) -> Tensor:
        """Rasterise objects within boxes.

        Args:
            index: (B,) int64, the object of each box.
            boxes: (B, 4) XYXY in pixels of the image.
            size: cells along a side of each mask.

        Returns:
            (B, size, size) bool.
        """
        cropped = [
            _rasterise_within(self.objects[i], box, size)
            for i, box in zip(index.tolist(), boxes.cpu().numpy(), strict=True)
        ]
        if not cropped:
            return torch.zeros((0, size, size), dtype=torch.bool, device=boxes.device)
        return torch.from_numpy(np.stack(cropped)).to(boxes.device)


@dataclass(frozen=True)
class BitMasks:
    """The masks of the G objects of one image (INPUT.MASK_FORMAT bitmask)."""

    masks: Tensor  # (G, H, W) bool

    def crop(self, index: Tensor, boxes: Tensor, size: int) -> Tensor:
        """See PolygonMasks.crop; a cell belongs to the object when half of its area or more does."""
        rois = torch.cat((index[:, None].to(boxes.dtype), boxes), dim=1).to(self.masks.device)  # (B, 5)
        coverage = roi_align(self.masks[:, None].float(), rois, (size, size), 1.0, 0, aligned=True)[:, 0]
        return (coverage >= 0.5).to(boxes.device)


Masks = PolygonMasks | BitMasks


def rasterise(polygons: Polygons, height: int, width: int) -> np.ndarray:
    """Fill the outlines of one object with COCO's rasteriser: (height, width) bool."""
    if not polygons:
        return np.zeros((height, width), dtype=bool)
    runs = pycocotools.mask.frPyObjects([outline.tolist() for outline in polygons], height, width)
    return pycocotools.mask.decode(pycocotools.mask.merge(runs)).astype(bool)


def _rasterise_within(polygons: Polygons, box: np.ndarray, size: int) -> np.ndarray:
    """Rasterise one object within `box` (4,) XYXY at the resolution of the target: (size, size) bool."""
    left, top, right, bottom = box
    scale_x, scale_y = size / max(right - left, 0.1), size / max(bottom - top, 0.1)
    moved = []
    for outline in polygons:
        points = outline.copy()
        points[0::2] = (points[0::2] - left) * scale_x
        points[1::2] = (points[1::2] - top) * scale_y
        moved.append(points)
    return rasterise(moved, size, size)
