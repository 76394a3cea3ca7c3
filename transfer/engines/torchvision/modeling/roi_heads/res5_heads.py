"""The heads of C4 models: the last ResNet stage on each region (arXiv 1512.03385, appendix A)."""

import torch
from torch import Tensor, nn

from transfer.engines.torchvision.modeling.backbone.norm import NormFactory
from transfer.engines.torchvision.modeling.backbone.resnet import rename_state
from transfer.engines.torchvision.modeling.roi_heads.box_head import BoxPredictor, Found
from transfer.engines.torchvision.modeling.roi_heads.mask_head import MaskHead
from transfer.engines.torchvision.modeling.roi_heads.pooler import Pooler
from transfer.engines.torchvision.modeling.roi_heads.roi_heads import Features, ROIHeads
from transfer.engines.torchvision.modeling.sampling import SamplingSettings, Truth


class Res5ROIHeads(ROIHeads):
    """res5 on each region, shared by the box and the mask branch.

    Args:
        res5: the stage. Its state has Detectron2's names.
        extra_norm: MoCo's Res5ROIHeadsExtraNorm: one more norm layer after the stage, of its `channels`.
    """

    def __init__(
        self,
        sampling: SamplingSettings,
        pooler: Pooler,
        res5: nn.Sequential,
        channels: int,
        box_predictor: BoxPredictor,
        mask_head: MaskHead | None = None,
        extra_norm: NormFactory | None = None,
    ) -> None:
        super().__init__(sampling)
        if extra_norm is not None:
            res5.add_module("norm", extra_norm(channels))
        rename_state(res5, prefix="layer4.")
        self.pooler, self.res5, self.box_predictor, self.mask_head = pooler, res5, box_predictor, mask_head

    def losses(self, features: Features, proposals: list[Tensor], truths: list[Truth]) -> dict[str, Tensor]:
        regions = self._sample(proposals, truths)
        shared = self.res5(self.pooler(features, [r.boxes for r in regions]))  # (R, C, H, W)
        losses = self._box_losses(shared.mean(dim=(2, 3)), regions)
        if self.mask_head is not None:
            # The same features, not a second pass: res5's batch statistics would be those of the objects alone.
            objects = torch.cat([self._holds_object(r) for r in regions])
            losses |= self._mask_loss(shared[objects], regions, truths)
        return losses

    def detect(self, features: Features, proposals: list[Tensor], sizes: list[tuple[int, int]]) -> list[Found]:
        logits, deltas = self.box_predictor(self.res5(self.pooler(features, proposals)).mean(dim=(2, 3)))
        found = self.box_predictor.detect(logits, deltas, proposals, sizes)
        if self.mask_head is not None:
            self._add_masks(self.res5(self.pooler(features, [image.boxes for image in found])), found)
        return found
