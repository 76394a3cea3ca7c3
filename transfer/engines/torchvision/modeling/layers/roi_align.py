"""ROIAlign (arXiv 1703.06870, section 3), and on a CPU a faster gradient of it.

A cell of a region is the mean of samples of the map, and a sample's bilinear weight is a product of one along y and one
along x. So is a cell's: the gradient of the map is a sum over regions of A^T G B, with A and B the weights of the
region's rows and columns of cells. torchvision adds up each sample's four corners in one thread; products of matrices
take a half to a fifth of that time, and all threads, where the map is small (docs/measurements/speed.md).
"""

from typing import Any

import torch
import torchvision.ops
from torch import Tensor

# A multiply-add of a product takes so many times less than adding a sample to the map's four corners; a cell costs as
# much as SAMPLES of its samples besides. Measured with one thread.
FASTER, SAMPLES = 110, 2
PIECE = 2**22  # numbers at a time between the two products


def roi_align(features: Tensor, rois: Tensor, size: int, scale: float, sampling_ratio: int, aligned: bool) -> Tensor:
    """Cut regions out of maps.

    Args:
        features: (N, C, H, W), of 32 bits or 64.
        rois: (R, 5) of the same type: the map's index, and XYXY in pixels of the network's input. Without gradient.
        size: cells along a side of a region.
        scale: cells of the map for a pixel.
        sampling_ratio: samples per cell and direction; 0: as many as the cell covers cells of the map.
        aligned: shift by half a cell of the map.

    Returns (R, C, size, size), as torchvision's operation computes it.
    """
    options = size, scale, sampling_ratio, aligned
    if features.device.type == "cpu" and features.requires_grad and torch.is_grad_enabled() and len(rois):
        found: Tensor = _RoiAlign.apply(features, rois, options)
        return found
    return torchvision.ops.roi_align(features, rois, (size, size), *options[1:])


class _RoiAlign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, rois: Tensor, options: tuple[int, float, int, bool]) -> Tensor:
        ctx.save_for_backward(rois)
        ctx.shape, ctx.options = features.shape, options
        size, *rest = options
        return torchvision.ops.roi_align(features, rois, (size, size), *rest)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (rois,) = ctx.saved_tensors
        images, channels, height, width = ctx.shape
        size, scale, ratio, aligned = ctx.options
        rows, columns = (_Axis(rois[:, 1 + axis], rois[:, 3 + axis], ctx.options) for axis in (1, 0))
        samples = (rows.samples * columns.samples).sum().item()
        products = width * (size + height) * len(rois)
        if not rois.isfinite().all() or products > FASTER * size * (SAMPLES * len(rois) + samples):
            of_map = torch.ops.torchvision._roi_align_backward(
                *(gradient, rois, scale, size, size, images, channels, height, width, ratio, aligned)
            )
            return of_map, None, None
        of_rows, of_columns = rows.weights(height), columns.weights(width)
        of_map = gradient.new_zeros(ctx.shape)
        for image in range(images):
            here = rois[:, 0] == image
            if here.any():
                _add_products(of_map[image], gradient[here], of_rows[here], of_columns[here])
        return of_map, None, None


def _add_products(of_map: Tensor, gradient: Tensor, rows: Tensor, columns: Tensor) -> None:
    """Add rows^T gradient columns of all regions to the gradient of a map.

    Args:
        of_map: (C, H, W), changed.
        gradient: (R, C, size, size).
        rows, columns: (R, size, H) and (R, size, W), the weights of each cell.
    """
    regions, channels, size, _ = gradient.shape
    width = of_map.shape[2]
    stacked = rows.flatten(0, 1).T  # (H, R size)
    for piece in torch.arange(channels).split(max(1, PIECE // (regions * size * width))):
        part = slice(int(piece[0]), int(piece[-1]) + 1)  # c channels
        with torch.autocast("cpu", enabled=False):  # as exact as torchvision's, wherever backward is called
            along_x = gradient[:, part].flatten(1, 2) @ columns  # (R, c size, W)
            along_x = along_x.unflatten(1, (-1, size)).transpose(0, 1).reshape(-1, regions * size, width)
            of_map[part] += stacked @ along_x  # (c, H, W)


class _Axis:
    """The regions along one axis of the map.

    Args:
        start, end: (R,) of each region, in pixels of the network's input.
        options: size, scale, sampling_ratio and aligned of `roi_align`.

    Attributes:
        samples: (R,) of a cell; 0 where a region has no extent.
    """

    def __init__(self, start: Tensor, end: Tensor, options: tuple[int, float, int, bool]) -> None:
        size, scale, ratio, aligned = options
        shift = 0.5 if aligned else 0.0
        self.size, self.start = size, start * scale - shift  # (R,)
        extent = end * scale - shift - self.start
        self.cell = (extent if aligned else extent.clamp(min=1)) / size
        self.samples = torch.full_like(self.cell, ratio) if ratio > 0 else self.cell.ceil().clamp(min=0)

    def weights(self, length: int) -> Tensor:
        """Return the weight of each of the map's `length` places in each cell's mean: (R, size, length)."""
        samples, cell = self.samples[:, None, None], self.cell[:, None, None]  # (R, 1, 1)
        number = torch.arange(max(1, int(self.samples.max())), dtype=cell.dtype)  # (S,)
        first = self.start[:, None, None] + torch.arange(self.size, dtype=cell.dtype)[:, None] * cell  # (R, size, 1)
        place = first + (number + 0.5) * cell / samples.clamp(min=1)  # (R, size, S)
        counts = (number < samples) & (place >= -1) & (place <= length)
        share = counts / samples.clamp(min=1)
        low = place.clamp(min=0).floor().clamp(max=length - 1)
        beyond = torch.where(low < length - 1, place.clamp(min=0) - low, 0)  # the upper place's part of a sample
        found = cell.new_zeros(len(cell), self.size, length)
        found.scatter_add_(2, low.long(), (1 - beyond) * share)
        found.scatter_add_(2, (low + 1).clamp(max=length - 1).long(), beyond * share)
        return found
