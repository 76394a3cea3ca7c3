"""Mask R-CNN's keypoint branch (arXiv 1703.06870, section 5)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from transfer.engines.torchvision.modeling.weight_init import init_he


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
