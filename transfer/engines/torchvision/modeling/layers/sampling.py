"""The ground truth of an image, and the sample of proposals that the second stage is trained on."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import box_iou

from transfer.engines.torchvision.modeling.layers.masks import Masks
from transfer.engines.torchvision.modeling.layers.matcher import IGNORE, match_boxes, subsample


@dataclass(frozen=True)
class GroundTruth:
    """The G objects of one training image, in pixels of the network's input."""

    boxes: Tensor  # (G, 4) float32 XYXY
    classes: Tensor  # (G,) int64
    masks: Masks | None = None  # of the G objects
    keypoints: Tensor | None = None  # (G, K, 3) float32 x, y, visibility

    def to(self, device: torch.device) -> "GroundTruth":
        """Return a copy with boxes, classes and keypoints on `device`; masks stay where they are."""
        keypoints = None if self.keypoints is None else self.keypoints.to(device)
        return GroundTruth(self.boxes.to(device), self.classes.to(device), self.masks, keypoints)


@dataclass(frozen=True)
class SampledProposals:
    """The R proposals of one image that are trained on, each with its true class and box."""

    boxes: Tensor  # (R, 4) XYXY in pixels of the network's input
    classes: Tensor  # (R,) int64; the number of classes stands for background
    objects: Tensor  # (R,) int64 index of the matched object in the ground truth
    gt_boxes: Tensor  # (R, 4) XYXY of that object


@dataclass(frozen=True)
class SamplingSettings:
    """The settings of the sample in MODEL.ROI_HEADS."""

    num_classes: int
    batch_size_per_image: int
    positive_fraction: float
    iou_thresholds: list[float]
    iou_labels: list[int]
    append_gt: bool


@torch.no_grad()
def sample_proposals(proposals: Tensor, target: GroundTruth, settings: SamplingSettings) -> SampledProposals:
    """Sample the proposals of one image to train on, and match each to an object.

    Args:
        proposals: (P, 4) XYXY in pixels of the network's input.
        target: the objects of the image.
    """
    if settings.append_gt:  # early proposals miss most objects
        proposals = torch.cat((proposals, target.boxes))
    quality = box_iou(target.boxes, proposals)  # (G, P)
    index, labels = match_boxes(quality, settings.iou_thresholds, settings.iou_labels)  # (P,) each
    background = torch.full_like(index, settings.num_classes)
    classes = target.classes[index] if len(target.classes) else background
    classes = torch.where(labels == 0, background, classes)
    classes = torch.where(labels == IGNORE, torch.full_like(classes, IGNORE), classes)
    sampled = torch.cat(
        subsample(classes, settings.batch_size_per_image, settings.positive_fraction, settings.num_classes)
    )
    gt_boxes = target.boxes[index[sampled]] if len(target.boxes) else proposals[sampled]
    return SampledProposals(proposals[sampled], classes[sampled], index[sampled], gt_boxes)
