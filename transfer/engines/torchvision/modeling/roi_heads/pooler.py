"""The features of regions: ROIAlign (arXiv 1703.06870, section 3) on the pyramid level that suits each box."""

import math

import torch
from torch import Tensor

from transfer.engines.torchvision.modeling.layers.precision import at_least_float32
from transfer.engines.torchvision.modeling.layers.roi_align import roi_align

_CANONICAL_SIZE, _CANONICAL_LEVEL = 224, 4  # a box of 224 x 224 pixels goes to p4 (arXiv 1612.03144, equation 1)


class Pooler:
    """A layer without parameters that cuts boxes out of feature maps, each to `resolution` x `resolution` cells.

    Args:
        in_features: names of the maps to cut from, by falling resolution.
        strides: {name: pixels of the image for a cell of the map}.
        resolution: cells along a side of a region's features.
        sampling_ratio: sampling points per cell and direction; 0: as many as the cell covers cells of the map.
        aligned: shift by half a cell so that neighbouring pixels are read exactly (ROIAlignV2).
    """

    def __init__(
        self, in_features: list[str], strides: dict[str, int], resolution: int, sampling_ratio: int, aligned: bool
    ) -> None:
        self.in_features, self.resolution = in_features, resolution
        self.strides = [strides[name] for name in in_features]
        self.sampling_ratio, self.aligned = sampling_ratio, aligned

    def __call__(self, features: dict[str, Tensor], boxes: list[Tensor]) -> Tensor:
        """Cut the boxes of all images out of the maps.

        Args:
            features: {name: (N, C, H, W)}.
            boxes: (R_n, 4) XYXY of each image, in pixels of the network's input.

        Returns:
            (R, C, resolution, resolution), the regions of all images in order.
        """
        maps = [features[name] for name in self.in_features]
        image = torch.cat([box.new_full((len(box), 1), i) for i, box in enumerate(boxes)])
        rois = torch.cat((image, torch.cat(boxes)), dim=1)  # (R, 5): image, XYXY
        if len(maps) == 1:
            return self._align(maps[0], rois, self.strides[0])
        levels = self._levels(rois[:, 1:])
        order = torch.argsort(levels, stable=True)  # (R,), the regions level by level
        of_levels = rois[order].split([int(count) for count in torch.bincount(levels, minlength=len(maps)).tolist()])
        pooled = [self._align(*pair) for pair in zip(maps, of_levels, self.strides, strict=True)]
        return torch.cat(pooled).index_select(0, torch.argsort(order))

    def _align(self, feature: Tensor, rois: Tensor, stride: int) -> Tensor:
        size, wide = self.resolution, at_least_float32(feature)
        rois = rois.to(wide.dtype)  # never to half precision, in which a box moves by up to 4 pixels
        return roi_align(wide, rois, size, 1 / stride, self.sampling_ratio, self.aligned).to(feature.dtype)

    def _levels(self, boxes: Tensor) -> Tensor:
        """Return the position in `in_features` of the map for each box: (R, 4) -> (R,). A box of NaN has the finest."""
        area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        level = torch.floor(_CANONICAL_LEVEL + torch.log2(area.sqrt() / _CANONICAL_SIZE + 1e-8))
        finest, coarsest = math.log2(self.strides[0]), math.log2(self.strides[-1])
        return (level.nan_to_num(finest).clamp(finest, coarsest) - finest).long()
