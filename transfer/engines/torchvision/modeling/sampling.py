"""The regions that the second stage is trained on, and what is in each."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import box_iou

from transfer.engines.torchvision.modeling.matcher import IGNORE, match, subsample
from transfer.engines.torchvision.modeling.roi_heads.mask_head import Masks


@dataclass(frozen=True)
class Truth:
    """What is in one training image, in pixels of the network's input."""

    boxes: Tensor  # (G, 4) float32 XYXY
    classes: Tensor  # (G,) int64
    masks: Masks | None = None  # of the G objects
    keypoints: Tensor | None = None  # (G, K, 3) float32 x, y, visibility

    def to(self, device: torch.device) -> "Truth":
        """Boxes, classes and keypoints on `device`; masks stay where they are."""
        keypoints = None if self.keypoints is None else self.keypoints.to(device)
        return Truth(self.boxes.to(device), self.classes.to(device), self.masks, keypoints)


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
