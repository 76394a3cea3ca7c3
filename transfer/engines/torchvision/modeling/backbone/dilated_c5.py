"""The dilated-C5 backbone of the MoCo paper (arXiv 1911.05722, appendix A.1)."""

from torch import Tensor, nn

from transfer.engines.torchvision.modeling.backbone.norm import Conv2d, NormFactory
from transfer.engines.torchvision.modeling.backbone.resnet import Backbone
from transfer.engines.torchvision.modeling.weight_init import init_he

CHANNELS = 512


class DilatedC5(nn.Module):
    """A ResNet whose res5 is dilated and keeps the resolution of res4; a 3x3 convolution with a norm to 512 channels.

    Args:
        bottom_up: the ResNet, up to its dilated res5.
        norm: of the convolution.
    """

    def __init__(self, bottom_up: Backbone, norm: NormFactory) -> None:
        super().__init__()
        self.bottom_up = bottom_up
        self.reduce = Conv2d(bottom_up.channels["res5"], CHANNELS, 3, norm, relu=True)
        init_he(self.reduce)
        self.strides = {"res5": bottom_up.strides["res5"]}
        self.channels = {"res5": CHANNELS}

    @property
    def size_divisibility(self) -> int:
        """Pixels that the sides of a batch must be a multiple of; 0: any size will do."""
        return 0

    def forward(self, images: Tensor) -> dict[str, Tensor]:  # (N, 3, H, W) -> (N, 512, H/16, W/16)
        return {"res5": self.reduce(self.bottom_up(images)["res5"])}
