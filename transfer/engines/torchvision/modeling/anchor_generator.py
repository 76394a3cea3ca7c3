"""The anchor boxes: one of each size and shape at every cell of every feature map."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


def cell_anchors(sizes: Sequence[float], aspect_ratios: Sequence[float]) -> Tensor:
    """Return the anchors around the origin: (sizes x ratios, 4) float32 XYXY in pixels, size-major and not rounded.

    Args:
        sizes: square roots of areas, in pixels of the network's input.
        aspect_ratios: heights over widths.
    """
    boxes = []
    for size in sizes:
        for ratio in aspect_ratios:
            width = math.sqrt(size**2 / ratio)
            height = ratio * width
            boxes.append([-width / 2, -height / 2, width / 2, height / 2])
    return torch.tensor(boxes)


class AnchorGenerator(nn.Module):
    """The anchors of several feature maps.

    Args:
        sizes, aspect_ratios: one list for each map, or a single list for all of them.
        strides: pixels of the image between neighbouring cells of each map.
        offset: distance of the first anchor's centre from the corner of the image, in strides.
    """

    def __init__(
        self, sizes: Sequence[Any], aspect_ratios: Sequence[Any], strides: Sequence[int], offset: float = 0.0
    ) -> None:
        super().__init__()
        self.strides, self.offset = strides, offset
        per_map = zip(_one_per_map(sizes, len(strides)), _one_per_map(aspect_ratios, len(strides)), strict=True)
        cells = [cell_anchors(map_sizes, map_ratios) for map_sizes, map_ratios in per_map]
        self.num_anchors = len(cells[0])  # of a cell; the RPN's head is shared by the maps
        self.num_maps = len(cells)
        for i, boxes in enumerate(cells):
            self.register_buffer(f"cell_anchors_{i}", boxes, persistent=False)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Return all anchors of each map.

        Args:
            maps: (N, C, H, W) each; only their sizes matter.

        Returns:
            (H x W x A, 4) XYXY in pixels for each map, row by row, the A anchors of a cell side by side.
        """
        return [self._grid(i, *feature.shape[-2:]) for i, feature in enumerate(maps)]

    def _grid(self, i: int, height: int, width: int) -> Tensor:
        cell, stride = getattr(self, f"cell_anchors_{i}"), self.strides[i]
        y = (torch.arange(height, device=cell.device, dtype=torch.float32) + self.offset) * stride
        x = (torch.arange(width, device=cell.device, dtype=torch.float32) + self.offset) * stride
        grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")  # (H, W)
        shifts = torch.stack((grid_x, grid_y, grid_x, grid_y), dim=-1).reshape(-1, 1, 4)  # (HW, 1, 4)
        return (shifts + cell).reshape(-1, 4)  # (HWA, 4)


def _one_per_map(values: Sequence[Any], maps: int) -> list[Any]:
    if not isinstance(values[0], (list, tuple)):
        return [values] * maps
    return list(values) * maps if len(values) == 1 else list(values)
