"""Mask R-CNN's mask branch (arXiv 1703.06870)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from transfer.engines.torchvision.modeling.backbone.norm import Conv2d, NormFactory
from transfer.engines.torchvision.modeling.weight_init import init_he, init_normal


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
