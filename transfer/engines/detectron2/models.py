"""The models of MoCo's recipes: Detectron2's, and the three parts that it lacks, which this module registers."""

import fvcore.nn.weight_init as weight_init
import torch
from torch import Tensor, nn

from transfer.config import resolve
from transfer.engines.common.semantic_output import HEAD_CHANNELS, HEAD_DILATION, semantic_loss, upsampled
from transfer.engines.detectron2.densepose import import_project
from transfer.engines.detectron2.quiet import quiet
from transfer.errors import TransferError

with quiet():
    from detectron2 import modeling
    from detectron2.config import CfgNode
    from detectron2.layers import Conv2d, ShapeSpec, get_norm
    from detectron2.modeling import (
        BACKBONE_REGISTRY,
        ROI_HEADS_REGISTRY,
        SEM_SEG_HEADS_REGISTRY,
        Backbone,
        build_resnet_backbone,
    )
    from detectron2.modeling.roi_heads import Res5ROIHeads


@ROI_HEADS_REGISTRY.register()
class Res5ROIHeadsExtraNorm(Res5ROIHeads):
    """The C4 head of the MoCo paper (arXiv 1911.05722): one more norm after res5, named roi_heads.res5.norm.*."""

    @classmethod
    def _build_res5_block(cls, cfg: CfgNode) -> tuple[nn.Sequential, int]:
        stage, channels = super()._build_res5_block(cfg)
        stage.add_module("norm", get_norm(cfg.MODEL.RESNETS.NORM, channels))
        return stage, channels


class DilatedC5(Backbone):
    """The dilated-C5 backbone of the MoCo paper (appendix A.1): res5, then a 3x3 convolution with a norm to 512."""

    def __init__(self, bottom_up: Backbone, norm: str) -> None:
        super().__init__()
        self.bottom_up = bottom_up
        channels, self._stride = bottom_up.output_shape()["res5"].channels, bottom_up.output_shape()["res5"].stride
        self.reduce = Conv2d(
            channels, 512, 3, padding=1, bias=False, norm=get_norm(norm, 512), activation=torch.nn.functional.relu
        )
        weight_init.c2_msra_fill(self.reduce)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return {"res5": (N, 512, H / 16, W / 16)} for images (N, 3, H, W)."""
        return {"res5": self.reduce(self.bottom_up(images)["res5"])}

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {"res5": ShapeSpec(channels=512, stride=self._stride)}


@BACKBONE_REGISTRY.register()
def build_resnet_dilated_c5_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> DilatedC5:
    """Build MoCo's dilated C5 on MODEL.RESNETS, whose RES5_DILATION is 2."""
    return DilatedC5(build_resnet_backbone(cfg, input_shape), cfg.MODEL.RESNETS.NORM)


@SEM_SEG_HEADS_REGISTRY.register()
class FCN16Head(nn.Module):
    """The head of MoCo's semantic segmentation (appendix A.5), for Detectron2's SemanticSegmentor.

    Two dilated 3x3 convolutions with a norm and a ReLU, and a 1x1 convolution to the classes.
    """

    def __init__(self, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> None:
        super().__init__()
        settings = cfg.MODEL.SEM_SEG_HEAD
        self.ignore_value, self.loss_weight = settings.IGNORE_VALUE, settings.LOSS_WEIGHT
        self.stride = input_shape["res5"].stride
        self.conv1 = _dilated(input_shape["res5"].channels, settings.NORM)
        self.conv2 = _dilated(HEAD_CHANNELS, settings.NORM)
        self.predictor = Conv2d(HEAD_CHANNELS, settings.NUM_CLASSES, 1)
        nn.init.normal_(self.predictor.weight, std=0.01)
        nn.init.zeros_(self.predictor.bias)

    def forward(
        self, features: dict[str, Tensor], targets: Tensor | None = None
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        """Compute the loss in training; else logits on the grid of the image, whose sides are a multiple of 16 and 1.

        Args:
            features: {"res5": (N, C, h, w)}.
            targets: (N, H, W) int64, in training.

        Returns:
            (N, K, H, W) logits or None, and {"loss_sem_seg": ()} or {}.
        """
        logits = self.predictor(self.conv2(self.conv1(features["res5"])))  # (N, K, h, w)
        if self.training:
            if targets is None:
                raise ValueError("labels are needed in training")
            return None, {"loss_sem_seg": semantic_loss(logits, targets, self.ignore_value) * self.loss_weight}
        height, width = ((cells - 1) * self.stride + 1 for cells in logits.shape[-2:])
        return upsampled(logits, (height, width)), {}


def _dilated(inputs: int, norm: str) -> Conv2d:
    convolution = Conv2d(
        inputs,
        HEAD_CHANNELS,
        3,
        padding=HEAD_DILATION,
        dilation=HEAD_DILATION,
        bias=not norm,
        norm=get_norm(norm, HEAD_CHANNELS),
        activation=torch.nn.functional.relu,
    )
    weight_init.c2_msra_fill(convolution)
    return convolution


def build_model(cfg: CfgNode) -> nn.Module:
    """Build the detector that a configuration describes, with random weights.

    Raises:
        TransferError: Detectron2 cannot build it.
    """
    if resolve.is_densepose(cfg):
        import_project()
    try:
        return modeling.build_model(cfg)
    except (AssertionError, AttributeError, KeyError, ValueError) as error:
        reason = str(error).strip("'\"") or type(error).__name__
        raise TransferError(f"Detectron2 cannot build the model that the config describes: {reason}") from error


def model_state(cfg: CfgNode) -> dict[str, Tensor]:
    """Return the names and shapes of the model's tensors, on the meta device: nothing is computed."""
    with torch.device("meta"):
        return dict(build_model(resolve.with_settings(cfg, {"MODEL.DEVICE": "meta"})).state_dict())
