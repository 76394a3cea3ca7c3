"""The keypoint branch of Mask R-CNN (arXiv 1703.06870, section 5): network, targets, and keypoints from heatmaps.

Keypoints are (x, y, visibility): x and y in pixels, 0.5 the middle of the first one; visibility 0: not labelled,
1: labelled and hidden, 2: visible.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from transfer.engines.torchvision.modeling.layers.precision import at_least_float32
from transfer.engines.torchvision.modeling.layers.weight_init import init_he

# The index of the keypoint that each of COCO's keypoints of a person becomes in a mirrored image: left and right swap.
MIRRORED = np.array([0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15])


class KeypointHead(nn.Sequential):
    """A stack of convolutions (conv_fcn1, ...), then two doublings of the resolution: one heatmap for each keypoint.

    Args:
        channels: of a region's features.
        widths: channels of the convolutions.
        num_keypoints: K.
        loss_weight: factor of the loss.
        normalizer: divisor of an image's loss; None: the batch's loss is divided by its number of visible keypoints.
    """

    def __init__(
        self, channels: int, widths: Sequence[int], num_keypoints: int, loss_weight: float, normalizer: float | None
    ) -> None:
        super().__init__()
        self.loss_weight, self.normalizer = loss_weight, normalizer
        for i, width in enumerate(widths, start=1):
            convolution = nn.Conv2d(channels, width, 3, padding=1)
            init_he(convolution)
            self.add_module(f"conv_fcn{i}", convolution)
            self.add_module(f"conv_fcn_relu{i}", nn.ReLU())
            channels = width
        self.score_lowres = nn.ConvTranspose2d(channels, num_keypoints, 4, stride=2, padding=1)
        init_he(self.score_lowres)

    def forward(self, features: Tensor) -> Tensor:
        """Predict heatmaps, logits (R, K, 4 M, 4 M), from the features (R, C, M, M) of regions."""
        return F.interpolate(super().forward(features), scale_factor=2.0, mode="bilinear", align_corners=False)

    def loss(self, logits: Tensor, cells: Tensor, within: Tensor, images: int) -> Tensor:
        """Compute the cross entropy over the cells of each heatmap.

        Args:
            logits: (R, K, S, S).
            cells, within: (R, K) true cells, as `keypoints_to_cells` gives them.
            images: number of images in the batch.

        Returns:
            () the loss; 0 without labelled keypoints.
        """
        chosen = torch.nonzero(within.flatten()).squeeze(1)
        if len(chosen) == 0:
            # Keeps every parameter in the graph, as DDP needs it; the sum of float16 may be infinite, times 0 NaN.
            return at_least_float32(logits).sum() * 0
        per_keypoint = at_least_float32(logits.flatten(2).flatten(0, 1)[chosen])  # (chosen, S S)
        total = F.cross_entropy(per_keypoint, cells.flatten()[chosen], reduction="sum")
        divisor = len(chosen) if self.normalizer is None else self.normalizer * images
        return total / divisor * self.loss_weight


def keypoints_to_cells(keypoints: Tensor, boxes: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Find the cell of a heatmap in which each true keypoint lies.

    Args:
        keypoints: (R, K, 3) x, y, visibility.
        boxes: (R, 4) XYXY in pixels, which the heatmaps fill.
        size: cells along a side of a heatmap.

    Returns:
        (R, K) int64 index of the cell, row by row, 0 where there is none; and (R, K) bool: labelled and within the box.
    """
    start, end = boxes[:, None, :2], boxes[:, None, 2:]  # (R, 1, 2)
    points = keypoints[..., :2]  # (R, K, 2)
    cells = ((points - start) * (size / (end - start))).floor().long()
    cells = torch.where(points == end, size - 1, cells)  # the box's far edges belong to it
    within = ((cells >= 0) & (cells < size)).all(dim=-1) & (keypoints[..., 2] > 0)
    return (cells[..., 1] * size + cells[..., 0]) * within, within


def shows_any(keypoints: Tensor, boxes: Tensor) -> Tensor:
    """Return (R,) bool: at least one labelled keypoint of (R, K, 3) lies in the box of (R, 4), edges included."""
    points = keypoints[..., :2]
    inside = ((points >= boxes[:, None, :2]) & (points <= boxes[:, None, 2:])).all(dim=-1)
    return (inside & (keypoints[..., 2] >= 1)).any(dim=1)


def heatmaps_to_keypoints(heatmaps: Tensor, boxes: Tensor) -> Tensor:
    """Find the most likely position of each keypoint.

    Args:
        heatmaps: (R, K, S, S) logits.
        boxes: (R, 4) XYXY in pixels, which the heatmaps fill.

    Returns:
        (R, K, 3) x, y, score: the peak's share of the heatmap's softmax, taken over its S x S cells.
    """
    keypoints = [_peaks(heatmap, box) for heatmap, box in zip(heatmaps, boxes, strict=True)]
    return torch.stack(keypoints) if keypoints else heatmaps.new_zeros((0, heatmaps.shape[1], 3))


def _peaks(heatmap: Tensor, box: Tensor) -> Tensor:
    """Find the peaks of one region's heatmaps (K, S, S), read bicubically at every pixel of its box (4,): (K, 3)."""
    sides = (box[2:] - box[:2]).clamp(min=1)  # width, height
    pixels = sides.ceil()
    size = (int(pixels[1]), int(pixels[0]))
    fine = F.interpolate(heatmap[None], size=size, mode="bicubic", align_corners=False)[0].flatten(1)  # (K, HW)
    peak, index = fine.max(dim=1)
    # Normalised over S x S cells and not over the pixels, so that scores of small and large objects compare.
    score = 1 / (heatmap.flatten(1) - peak[:, None]).exp().sum(dim=1)
    position = torch.stack((index % size[1], index // size[1]), dim=1) + 0.5  # (K, 2) x, y in pixels of the box
    return torch.cat((position * (sides / pixels) + box[:2], score[:, None]), dim=1)
