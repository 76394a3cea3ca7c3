"""The second stage: what is in each proposed region. One kind of head for FPN models, one for C4 models."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.ops import box_iou

from transfer.engines.torchvision.backbone import rename_state
from transfer.engines.torchvision.box_head import BoxHead, BoxPredictor, Found
from transfer.engines.torchvision.mask_head import MaskHead, mask_loss, of_class
from transfer.engines.torchvision.masks import Masks
from transfer.engines.torchvision.matching import IGNORE, match, subsample
from transfer.engines.torchvision.norm import NormFactory
from transfer.engines.torchvision.pooler import Pooler

Features = dict[str, Tensor]  # {level: (N, C, H, W)}


@dataclass(frozen=True)
class Truth:
    """What is in one training image, in pixels of the network's input."""

    boxes: Tensor  # (G, 4) float32 XYXY
    classes: Tensor  # (G,) int64
    masks: Masks | None = None  # of the G objects

    def to(self, device: torch.device) -> "Truth":
        """Boxes and classes on `device`; masks stay where they are."""
        return Truth(self.boxes.to(device), self.classes.to(device), self.masks)


@dataclass(frozen=True)
class Regions:
    """Regions of one image drawn for training."""

    boxes: Tensor  # (R, 4)
    classes: Tensor  # (R,); the number of classes: background
    objects: Tensor  # (R,) index of the true object
    gt_boxes: Tensor  # (R, 4) its box


@dataclass(frozen=True)
class SamplingSettings:
    """What MODEL.ROI_HEADS says of the regions to train on."""

    num_classes: int
    batch_size_per_image: int
    positive_fraction: float
    iou_thresholds: list[float]
    iou_labels: list[int]
    append_gt: bool


@torch.no_grad()
def sample_regions(proposals: Tensor, truth: Truth, settings: SamplingSettings) -> Regions:
    """Draw the regions of one image to train on from its proposals (P, 4), and name what is in each."""
    if settings.append_gt:  # early proposals miss most objects
        proposals = torch.cat((proposals, truth.boxes))
    quality = box_iou(truth.boxes, proposals)
    index, labels = match(quality, settings.iou_thresholds, settings.iou_labels)
    background = torch.full_like(index, settings.num_classes)
    classes = truth.classes[index] if len(truth.classes) else background
    classes = torch.where(labels == 0, background, classes)
    classes = torch.where(labels == IGNORE, torch.full_like(classes, IGNORE), classes)
    drawn = torch.cat(
        subsample(classes, settings.batch_size_per_image, settings.positive_fraction, settings.num_classes)
    )
    gt_boxes = truth.boxes[index[drawn]] if len(truth.boxes) else proposals[drawn]
    return Regions(proposals[drawn], classes[drawn], index[drawn], gt_boxes)


class ROIHeads(nn.Module):
    """What both kinds of heads share: sampling, the box losses and the mask loss."""

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
    """A small network a branch on regions of the pyramid (FPN models)."""

    def __init__(
        self,
        sampling: SamplingSettings,
        box_pooler: Pooler,
        box_head: BoxHead,
        box_predictor: BoxPredictor,
        mask_pooler: Pooler | None = None,
        mask_head: MaskHead | None = None,
    ) -> None:
        super().__init__(sampling)
        self.box_pooler, self.box_head, self.box_predictor = box_pooler, box_head, box_predictor
        self.mask_pooler, self.mask_head = mask_pooler, mask_head

    def losses(self, features: Features, proposals: list[Tensor], truths: list[Truth]) -> dict[str, Tensor]:
        regions = self._sample(proposals, truths)
        losses = self._box_losses(self.box_head(self.box_pooler(features, [r.boxes for r in regions])), regions)
        if self.mask_pooler is not None:
            objects = [r.boxes[self._holds_object(r)] for r in regions]
            losses |= self._mask_loss(self.mask_pooler(features, objects), regions, truths)
        return losses

    def detect(self, features: Features, proposals: list[Tensor], sizes: list[tuple[int, int]]) -> list[Found]:
        logits, deltas = self.box_predictor(self.box_head(self.box_pooler(features, proposals)))
        found = self.box_predictor.detect(logits, deltas, proposals, sizes)
        if self.mask_pooler is not None:
            self._add_masks(self.mask_pooler(features, [image.boxes for image in found]), found)
        return found


class Res5ROIHeads(ROIHeads):
    """The last ResNet stage on each region, shared by the box and the mask branch (C4 models; arXiv 1512.03385, A).

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
