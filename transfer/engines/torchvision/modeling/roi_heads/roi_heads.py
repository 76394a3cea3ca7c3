"""The second stage: what is in each proposed region. Here the parts all heads share, and the heads of FPN models."""

import torch
from torch import Tensor, nn

from transfer.engines.torchvision.modeling.backbone.norm import NormFactory
from transfer.engines.torchvision.modeling.backbone.resnet import rename_state
from transfer.engines.torchvision.modeling.matcher import IGNORE
from transfer.engines.torchvision.modeling.roi_heads.box_head import BoxHead, BoxPredictor, Found
from transfer.engines.torchvision.modeling.roi_heads.keypoint_head import (
    KeypointHead,
    from_heatmaps,
    shows_any,
    to_cells,
)
from transfer.engines.torchvision.modeling.roi_heads.mask_head import MaskHead, mask_loss, of_class
from transfer.engines.torchvision.modeling.roi_heads.pooler import Pooler
from transfer.engines.torchvision.modeling.sampling import Regions, SamplingSettings, Truth, sample_regions

Features = dict[str, Tensor]  # {level: (N, C, H, W)}


class ROIHeads(nn.Module):
    """What all kinds of heads share: sampling, the box losses and the mask loss."""

    box_predictor: BoxPredictor
    mask_head: MaskHead | None

    def __init__(self, sampling: SamplingSettings) -> None:
        super().__init__()
        self.sampling = sampling

    def losses(self, features: Features, proposals: list[Tensor], truths: list[Truth]) -> dict[str, Tensor]:
        """The losses of a training batch: proposals (P_n, 4) and truth of each image."""
        raise NotImplementedError

    def detect(self, features: Features, proposals: list[Tensor], sizes: list[tuple[int, int]]) -> list[Found]:
        """The detections of each image (height, width in `sizes`) among its proposals."""
        raise NotImplementedError

    def _sample(self, proposals: list[Tensor], truths: list[Truth]) -> list[Regions]:
        return [sample_regions(boxes, truth, self.sampling) for boxes, truth in zip(proposals, truths, strict=True)]

    def _box_losses(self, features: Tensor, regions: list[Regions]) -> dict[str, Tensor]:
        """From one vector of features a region, (sum of R_n, C)."""
        logits, deltas = self.box_predictor(features)
        boxes, classes, gt_boxes = (
            torch.cat([getattr(image, name) for image in regions]) for name in ("boxes", "classes", "gt_boxes")
        )
        return self.box_predictor.losses(logits, deltas, boxes, classes, gt_boxes)

    def _mask_loss(self, features: Tensor, regions: list[Regions], truths: list[Truth]) -> dict[str, Tensor]:
        """From the features of the regions that hold an object, in their order (O, C, H, W)."""
        logits = self.mask_head(features)  # type: ignore[misc]
        targets, classes = [], []
        for image, truth in zip(regions, truths, strict=True):
            chosen = self._holds_object(image)
            classes.append(image.classes[chosen])
            if truth.masks is not None:  # an image without objects has none
                targets.append(truth.masks.crop(image.objects[chosen], image.boxes[chosen], logits.shape[-1]))
        return {"loss_mask": mask_loss(logits, torch.cat(classes), torch.cat(targets) if targets else logits[:, 0])}

    def _holds_object(self, regions: Regions) -> Tensor:
        return (regions.classes != IGNORE) & (regions.classes != self.sampling.num_classes)

    def _add_masks(self, features: Tensor, found: list[Found]) -> None:
        """Give each detection its mask, from the features of all detected boxes (sum of D_n, C, H, W)."""
        logits = of_class(self.mask_head(features), torch.cat([image.classes for image in found]))  # type: ignore[misc]
        for image, masks in zip(found, logits.float().sigmoid().split([len(i.boxes) for i in found]), strict=True):
            image.masks = masks  # (D, M, M)


class StandardROIHeads(ROIHeads):
    """A small network a branch on regions of the feature maps."""

    def __init__(
        self,
        sampling: SamplingSettings,
        box_pooler: Pooler,
        box_head: BoxHead,
        box_predictor: BoxPredictor,
        mask_pooler: Pooler | None = None,
        mask_head: MaskHead | None = None,
        keypoint_pooler: Pooler | None = None,
        keypoint_head: KeypointHead | None = None,
    ) -> None:
        super().__init__(sampling)
        self.box_pooler, self.box_head, self.box_predictor = box_pooler, box_head, box_predictor
        self.mask_pooler, self.mask_head = mask_pooler, mask_head
        self.keypoint_pooler, self.keypoint_head = keypoint_pooler, keypoint_head

    def losses(self, features: Features, proposals: list[Tensor], truths: list[Truth]) -> dict[str, Tensor]:
        regions = self._sample(proposals, truths)
        losses = self._box_losses(self.box_head(self.box_pooler(features, [r.boxes for r in regions])), regions)
        if self.mask_pooler is not None:
            objects = [r.boxes[self._holds_object(r)] for r in regions]
            losses |= self._mask_loss(self.mask_pooler(features, objects), regions, truths)
        if self.keypoint_pooler is not None:
            losses |= self._keypoint_loss(features, regions, truths)
        return losses

    def detect(self, features: Features, proposals: list[Tensor], sizes: list[tuple[int, int]]) -> list[Found]:
        logits, deltas = self.box_predictor(self.box_head(self.box_pooler(features, proposals)))
        found = self.box_predictor.detect(logits, deltas, proposals, sizes)
        if self.mask_pooler is not None:
            self._add_masks(self.mask_pooler(features, [image.boxes for image in found]), found)
        if self.keypoint_pooler is not None:
            self._add_keypoints(features, found)
        return found

    def _keypoint_loss(self, features: Features, regions: list[Regions], truths: list[Truth]) -> dict[str, Tensor]:
        """Over the regions that hold an object and show one of its keypoints: others would cost and add nothing."""
        boxes, keypoints = [], []
        for image, truth in zip(regions, truths, strict=True):
            of_objects = self._holds_object(image)
            true = truth.keypoints[image.objects[of_objects]]  # type: ignore[index]  # (O, K, 3)
            shown = shows_any(true, image.boxes[of_objects])
            boxes.append(image.boxes[of_objects][shown])
            keypoints.append(true[shown])
        logits = self.keypoint_head(self.keypoint_pooler(features, boxes))  # type: ignore[misc]  # (R, K, S, S)
        cells, within = to_cells(torch.cat(keypoints), torch.cat(boxes), logits.shape[-1])
        return {"loss_keypoint": self.keypoint_head.loss(logits, cells, within, len(truths))}  # type: ignore[union-attr]

    def _add_keypoints(self, features: Features, found: list[Found]) -> None:
        boxes = [image.boxes for image in found]
        heatmaps = self.keypoint_head(self.keypoint_pooler(features, boxes)).float()  # type: ignore[misc]
        for image, own in zip(found, heatmaps.split([len(b) for b in boxes]), strict=True):
            image.keypoints = from_heatmaps(own, image.boxes)  # (D, K, 3)


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
