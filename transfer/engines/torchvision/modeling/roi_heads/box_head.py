"""Fast R-CNN's box branch: features of a region to class scores and boxes, its losses, and its detections."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import batched_nms

from transfer.engines.torchvision.modeling.backbone.norm import Conv2d, NormFactory
from transfer.engines.torchvision.modeling.box_ops import box_loss, clip, decode
from transfer.engines.torchvision.modeling.weight_init import init_he, init_normal, init_xavier


@dataclass
class Found:
    """Detections of one image in pixels of the network's input."""

    boxes: Tensor  # (D, 4)
    scores: Tensor  # (D,)
    classes: Tensor  # (D,)
    masks: Tensor | None = None  # (D, M, M) probabilities
    keypoints: Tensor | None = None  # (D, K, 3) x, y, score


@dataclass(frozen=True)
class BoxSettings:
    """What MODEL.ROI_BOX_HEAD, MODEL.ROI_HEADS and TEST say of the box branch."""

    num_classes: int
    class_agnostic: bool  # one box a region, not one a class
    box_weights: list[float]
    smooth_l1_beta: float
    box_loss_weight: float
    score_threshold: float
    nms_threshold: float
    max_detections: int  # of an image; negative: all


class BoxHead(nn.Sequential):
    """Convolutions (conv1, ...) and then fully connected layers (fc1, ...), a ReLU after each.

    Args:
        channels, resolution: of a region's features, (R, channels, resolution, resolution).
        conv_widths, fc_widths: of the layers.
    """

    def __init__(
        self,
        channels: int,
        resolution: int,
        conv_widths: list[int],
        fc_widths: list[int],
        norm: NormFactory | None = None,
    ) -> None:
        super().__init__()
        for i, width in enumerate(conv_widths, start=1):
            conv = Conv2d(channels, width, 3, norm, relu=True)
            init_he(conv)
            self.add_module(f"conv{i}", conv)
            channels = width
        width = channels * resolution**2
        self.add_module("flatten", nn.Flatten())
        for i, fc_width in enumerate(fc_widths, start=1):
            layer = nn.Linear(width, fc_width)
            init_xavier(layer)
            self.add_module(f"fc{i}", layer)
            self.add_module(f"fc_relu{i}", nn.ReLU())
            width = fc_width
        self.out_channels = width


class BoxPredictor(nn.Module):
    """Class logits (the background's last) and box codes of each region."""

    def __init__(self, channels: int, settings: BoxSettings) -> None:
        super().__init__()
        self.settings = settings
        self.cls_score = nn.Linear(channels, settings.num_classes + 1)
        self.bbox_pred = nn.Linear(channels, 4 * (1 if settings.class_agnostic else settings.num_classes))
        init_normal(self.cls_score, 0.01)
        init_normal(self.bbox_pred, 0.001)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(R, C) -> logits (R, K + 1), codes (R, 4 K), or (R, 4) if class-agnostic."""
        return self.cls_score(features), self.bbox_pred(features)

    def losses(
        self, logits: Tensor, deltas: Tensor, boxes: Tensor, classes: Tensor, gt_boxes: Tensor
    ) -> dict[str, Tensor]:
        """Losses of R regions: cross entropy, and a box loss over the objects, both divided by R.

        Args:
            boxes, gt_boxes: (R, 4) the regions and the true box of each (any where it is background).
            classes: (R,) the class, `num_classes` for the background.
        """
        s = self.settings
        objects = torch.nonzero((classes >= 0) & (classes < s.num_classes)).squeeze(1)
        if s.class_agnostic:
            chosen = deltas[objects]
        else:
            chosen = deltas.unflatten(1, (-1, 4))[objects, classes[objects]]  # (objects, 4)
        box = box_loss(chosen, boxes[objects], gt_boxes[objects], s.box_weights, s.smooth_l1_beta)
        cross_entropy = F.cross_entropy(logits, classes) if len(classes) else logits.sum() * 0.0
        return {"loss_cls": cross_entropy, "loss_box_reg": box / max(len(classes), 1) * s.box_loss_weight}

    def detect(
        self, logits: Tensor, deltas: Tensor, proposals: list[Tensor], image_sizes: list[tuple[int, int]]
    ) -> list[Found]:
        """The detections of each image, from the outputs for the proposals (P_n, 4) of all of them."""
        counts = [len(boxes) for boxes in proposals]
        boxes = decode(deltas, torch.cat(proposals), self.settings.box_weights).split(counts)
        scores = logits.float().softmax(dim=-1).split(counts)
        return [self._detect(b, score, size) for b, score, size in zip(boxes, scores, image_sizes, strict=True)]

    def _detect(self, boxes: Tensor, scores: Tensor, size: tuple[int, int]) -> Found:
        """Boxes (P, 4 K) and scores (P, K + 1) of one image: above the threshold, NMS in each class, the best."""
        finite = torch.isfinite(boxes).all(dim=1) & torch.isfinite(scores).all(dim=1)
        boxes, scores = clip(boxes[finite].unflatten(1, (-1, 4)), size), scores[finite, :-1]  # (P, K or 1, 4), (P, K)
        region, label = torch.nonzero(scores > self.settings.score_threshold).unbind(1)
        boxes = boxes[region, 0 if self.settings.class_agnostic else label]
        scores = scores[region, label]
        kept = batched_nms(boxes, scores, label, self.settings.nms_threshold)
        if self.settings.max_detections >= 0:
            kept = kept[: self.settings.max_detections]
        return Found(boxes[kept], scores[kept], label[kept])
