"""Mask R-CNN's keypoint branch (arXiv 1703.06870, section 5): the network, its targets, and keypoints from heatmaps.

Keypoints are (x, y, visibility) in pixels of the image, where 0.5 is the middle of the first one; visibility 0: not
labelled, 1: labelled and hidden, 2: visible.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from transfer.engines.torchvision.modeling.weight_init import init_he

# Which of COCO's keypoints of a person each becomes in a mirrored image: left and right trade places.
MIRRORED = np.array([0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15])


class KeypointHead(nn.Sequential):
    """Convolutions (conv_fcn1, ...), then two doublings of the resolution: one heatmap a keypoint.

    Args:
        channels: of a region's features.
        widths: channels of the convolutions.
        num_keypoints: K.
        loss_weight: factor of the loss.
        normalizer: what an image's loss is divided by; None: divide the batch's by its number of visible keypoints.
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

    def forward(self, features: Tensor) -> Tensor:  # (R, C, M, M) -> (R, K, 4 M, 4 M) logits
        return F.interpolate(super().forward(features), scale_factor=2.0, mode="bilinear", align_corners=False)

    def loss(self, logits: Tensor, cells: Tensor, within: Tensor, images: int) -> Tensor:
        """Cross entropy over the cells of each heatmap.

        Args:
            logits: (R, K, S, S).
            cells, within: (R, K) of keypoints.to_cells.
            images: in the batch.
        """
        chosen = torch.nonzero(within.flatten()).squeeze(1)
        if len(chosen) == 0:
            return logits.sum() * 0  # keeps every parameter in the graph, as DDP needs it
        per_keypoint = logits.flatten(2).flatten(0, 1)[chosen]  # (chosen, S S)
        total = F.cross_entropy(per_keypoint, cells.flatten()[chosen], reduction="sum")
        divisor = len(chosen) if self.normalizer is None else self.normalizer * images
        return total / divisor * self.loss_weight


def to_cells(keypoints: Tensor, boxes: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Where keypoints (R, K, 3) lie in a heatmap of `size` x `size` cells over the boxes (R, 4).

    Returns:
        (R, K) int64, row by row from 0, and (R, K) bool: labelled and within the box; the cell is 0 where it is not.
    """
    start, end = boxes[:, None, :2], boxes[:, None, 2:]  # (R, 1, 2)
    points = keypoints[..., :2]  # (R, K, 2)
    cells = ((points - start) * (size / (end - start))).floor().long()
    cells = torch.where(points == end, size - 1, cells)  # the box's far edges belong to it
    within = ((cells >= 0) & (cells < size)).all(dim=-1) & (keypoints[..., 2] > 0)
    return (cells[..., 1] * size + cells[..., 0]) * within, within


def shows_any(keypoints: Tensor, boxes: Tensor) -> Tensor:
    """(R,) bool: at least one of the labelled keypoints (R, K, 3) lies in the box (R, 4), edges included."""
    points = keypoints[..., :2]
    inside = ((points >= boxes[:, None, :2]) & (points <= boxes[:, None, 2:])).all(dim=-1)
    return (inside & (keypoints[..., 2] >= 1)).any(dim=1)


def from_heatmaps(heatmaps: Tensor, boxes: Tensor) -> Tensor:
    """The likeliest place of each keypoint.

    Args:
        heatmaps: (R, K, S, S) logits.
        boxes: (R, 4) that they fill.

    Returns:
        (R, K, 3) x, y, score: the peak's share of the heatmap's softmax, taken over its S x S cells.
    """
    found = [_peaks(heatmap, box) for heatmap, box in zip(heatmaps, boxes, strict=True)]
    return torch.stack(found) if found else heatmaps.new_zeros((0, heatmaps.shape[1], 3))


def _peaks(heatmap: Tensor, box: Tensor) -> Tensor:
    """(K, S, S) logits over a box (4,) -> (K, 3): read at every pixel of the box, bicubically."""
    sides = (box[2:] - box[:2]).clamp(min=1)  # width, height
    pixels = sides.ceil()
    size = (int(pixels[1]), int(pixels[0]))
    fine = F.interpolate(heatmap[None], size=size, mode="bicubic", align_corners=False)[0].flatten(1)  # (K, HW)
    peak, index = fine.max(dim=1)
    # Normalised over S x S cells and not over the pixels, so that scores of small and large objects compare.
    score = 1 / (heatmap.flatten(1) - peak[:, None]).exp().sum(dim=1)
    place = torch.stack((index % size[1], index // size[1]), dim=1) + 0.5  # (K, 2) x, y in pixels of the box
    return torch.cat((place * (sides / pixels) + box[:2], score[:, None]), dim=1)
