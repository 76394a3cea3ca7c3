"""The network of semantic segmentation of the MoCo paper: FCN-16s (arXiv 1911.05722, appendix A.5)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from transfer.engines.common.semantic_input import SemanticExample
from transfer.engines.common.semantic_output import HEAD_CHANNELS, HEAD_DILATION, semantic_loss, upsampled
from transfer.engines.torchvision.modeling.backbone.resnet import Backbone
from transfer.engines.torchvision.modeling.layers.norm import Conv2d, NormFactory
from transfer.engines.torchvision.modeling.layers.weight_init import init_he, init_normal
from transfer.engines.torchvision.modeling.meta_arch import Network


class FCNHead(nn.Module):
    """The head: two dilated 3x3 convolutions with a norm and a ReLU, and a 1x1 convolution to the classes.

    Args:
        inputs: channels of res5.
        classes: K.
        norm: makes the norm layer for C channels; None: the convolutions have a bias instead.
    """

    def __init__(self, inputs: int, classes: int, norm: NormFactory | None) -> None:
        super().__init__()
        self.conv1 = Conv2d(inputs, HEAD_CHANNELS, 3, norm, relu=True, dilation=HEAD_DILATION)
        self.conv2 = Conv2d(HEAD_CHANNELS, HEAD_CHANNELS, 3, norm, relu=True, dilation=HEAD_DILATION)
        self.predictor = nn.Conv2d(HEAD_CHANNELS, classes, 1)
        init_he(self.conv1)
        init_he(self.conv2)
        init_normal(self.predictor, 0.01)

    def forward(self, res5: Tensor) -> Tensor:  # (N, inputs, h, w) -> (N, K, h, w)
        return self.predictor(self.conv2(self.conv1(res5)))


class SemanticSegmentor(Network):
    """The whole network: a ResNet and the head on its res5.

    Args:
        ignored: the label of pixels that are not learned.
        loss_weight: factor of the loss.
    """

    def __init__(
        self,
        backbone: Backbone,
        head: FCNHead,
        ignored: int,
        loss_weight: float,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
    ) -> None:
        super().__init__(backbone, pixel_mean, pixel_std)
        self.sem_seg_head, self.ignored, self.loss_weight = head, ignored, loss_weight

    def forward(self, samples: list[SemanticExample]) -> dict[str, Tensor]:
        """Compute the loss of a training batch, whose crops are of one size: {"loss_sem_seg": ()}."""
        batch, _ = self.batch([sample.image for sample in samples])
        labels = torch.stack([sample.labels for sample in samples]).to(batch.device)  # (N, H, W)
        loss = semantic_loss(self.logits(batch), labels, self.ignored)
        return {"loss_sem_seg": loss * self.loss_weight}

    def logits(self, batch: Tensor) -> Tensor:
        """Compute the logits of normalised images, before upsampling: (N, 3, H, W) -> (N, K, h, w)."""
        return self.sem_seg_head(self.backbone(batch)["res5"])

    @torch.no_grad()
    def segment(self, image: Tensor) -> Tensor:
        """Compute the upsampled logits of one image: (3, H, W) -> (K, H, W), without gradients."""
        batch, ((height, width),) = self.batch([image])
        return upsampled(self.logits(batch), (height, width))[0]
