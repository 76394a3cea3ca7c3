"""The region proposal network (arXiv 1506.01497)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import batched_nms, box_iou

from transfer.engines.torchvision.modeling.anchor_generator import AnchorGenerator
from transfer.engines.torchvision.modeling.layers.box_ops import box_loss, clip, decode, nonempty
from transfer.engines.torchvision.modeling.layers.matcher import IGNORE, match_boxes, subsample
from transfer.engines.torchvision.modeling.layers.precision import at_least_float32
from transfer.engines.torchvision.modeling.layers.weight_init import init_normal


@dataclass(frozen=True)
class RPNSettings:
    """The settings in MODEL.RPN and MODEL.PROPOSAL_GENERATOR."""

    in_features: list[str]
    pre_nms_topk: dict[bool, int]  # {training?: boxes of each feature map that go into NMS}
    post_nms_topk: dict[bool, int]  # {training?: boxes of an image that come out of it}
    nms_threshold: float
    min_size: float  # pixels; both sides of a proposal are longer
    box_weights: list[float]
    iou_thresholds: list[float]
    iou_labels: list[int]
    batch_size_per_image: int  # anchors trained on
    positive_fraction: float
    smooth_l1_beta: float
    loss_weight: float
    box_loss_weight: float


class RPNHead(nn.Module):
    """A 3x3 convolution, then objectness and box deltas of the A anchors of each cell; shared by the feature maps."""

    def __init__(self, channels: int, num_anchors: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.objectness_logits = nn.Conv2d(channels, num_anchors, 1)
        self.anchor_deltas = nn.Conv2d(channels, 4 * num_anchors, 1)
        for layer in (self.conv, self.objectness_logits, self.anchor_deltas):
            init_normal(layer, 0.01)

    def forward(self, feature: Tensor) -> tuple[Tensor, Tensor]:
        """Predict objectness and deltas of one map's anchors.

        Args:
            feature: (N, C, H, W).

        Returns:
            Logits (N, HWA) and deltas (N, HWA, 4), in the order of the anchors.
        """
        hidden = self.conv(feature).relu()
        logits = self.objectness_logits(hidden).permute(0, 2, 3, 1).flatten(1)
        deltas = self.anchor_deltas(hidden).permute(0, 2, 3, 1).flatten(1).unflatten(1, (-1, 4))
        return logits, deltas


class RPN(nn.Module):
    """The proposals of boxes that may hold an object, and their two losses in training."""

    def __init__(self, head: RPNHead, anchor_generator: AnchorGenerator, settings: RPNSettings) -> None:
        super().__init__()
        self.rpn_head, self.anchor_generator, self.settings = head, anchor_generator, settings

    def forward(
        self, features: dict[str, Tensor], image_sizes: list[tuple[int, int]], gt_boxes: list[Tensor] | None = None
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Propose boxes, and compute the losses in training.

        Args:
            features: {level: (N, C, H, W)}.
            image_sizes: (height, width) of each image in pixels, without padding.
            gt_boxes: (G, 4) XYXY of each image, in pixels of the network's input; None: no losses are computed.

        Returns:
            Proposals (P, 4) XYXY of each image in pixels, best first; and {"loss_rpn_cls": (), "loss_rpn_loc": ()},
            empty without `gt_boxes`.
        """
        maps = [features[name] for name in self.settings.in_features]
        anchors = self.anchor_generator(maps)  # per map (R_m, 4)
        logits, deltas = zip(*(self.rpn_head(feature) for feature in maps), strict=True)
        losses = {}
        if gt_boxes is not None:
            losses = self._losses(torch.cat(anchors), torch.cat(logits, dim=1), torch.cat(deltas, dim=1), gt_boxes)
        with torch.no_grad():  # for the heads a proposal is a fixed box
            return self._proposals(anchors, logits, deltas, image_sizes), losses

    def _losses(self, anchors: Tensor, logits: Tensor, deltas: Tensor, gt_boxes: list[Tensor]) -> dict[str, Tensor]:
        """Compute the losses over the anchors of all maps.

        Args:
            anchors, logits, deltas: (R, 4), (N, R), (N, R, 4).
            gt_boxes: (G, 4) of each image.
        """
        s = self.settings
        matched = [self._label(anchors, boxes) for boxes in gt_boxes]
        labels = torch.stack([image_labels for image_labels, _ in matched])  # (N, R)
        positive, chosen = labels == 1, labels != IGNORE
        boxes = anchors.expand(len(gt_boxes), -1, -1)[positive]  # (objects, 4)
        targets = torch.cat([image_boxes[labels == 1] for labels, image_boxes in matched])
        box = box_loss(deltas[positive], boxes, targets, s.box_weights, s.smooth_l1_beta)
        wide = at_least_float32(logits[chosen])
        objectness = F.binary_cross_entropy_with_logits(wide, labels[chosen].to(wide.dtype), reduction="sum")
        scale = s.loss_weight / (s.batch_size_per_image * len(gt_boxes))
        return {"loss_rpn_cls": objectness * scale, "loss_rpn_loc": box * scale * s.box_loss_weight}

    @torch.no_grad()
    def _label(self, anchors: Tensor, gt_boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Return (R,) labels: 1 object, 0 background, -1 not trained on; and (R, 4) the true box of each anchor."""
        s = self.settings
        index, labels = match_boxes(box_iou(gt_boxes, anchors), s.iou_thresholds, s.iou_labels, keep_best=True)
        positive, negative = subsample(labels, s.batch_size_per_image, s.positive_fraction, background=0)
        labels = torch.full_like(labels, IGNORE)
        labels[positive], labels[negative] = 1, 0
        return labels, gt_boxes[index] if len(gt_boxes) else torch.zeros_like(anchors)

    def _proposals(
        self,
        anchors: list[Tensor],
        logits: tuple[Tensor, ...],
        deltas: tuple[Tensor, ...],
        image_sizes: list[tuple[int, int]],
    ) -> list[Tensor]:
        """Turn the best anchors of each map into proposals.

        Args:
            anchors, logits, deltas: (R_m, 4), (N, R_m), (N, R_m, 4) of each map m.

        Returns:
            (P, 4) XYXY of each image.
        """
        boxes, scores, levels = [], [], []
        for level, (map_anchors, map_logits, map_deltas) in enumerate(zip(anchors, logits, deltas, strict=True)):
            best, index = map_logits.topk(min(self.settings.pre_nms_topk[self.training], map_logits.shape[1]), dim=1)
            chosen = map_deltas.gather(1, index[..., None].expand(-1, -1, 4)).flatten(0, 1)  # (N K, 4)
            decoded = decode(chosen, map_anchors[index.flatten()], self.settings.box_weights)
            boxes.append(decoded.unflatten(0, index.shape))  # (N, K, 4)
            scores.append(best.float())
            levels.append(torch.full_like(index[0], level))
        per_image = zip(torch.cat(boxes, dim=1), torch.cat(scores, dim=1), image_sizes, strict=True)
        return [self._suppress(b, score, torch.cat(levels), size) for b, score, size in per_image]

    def _suppress(self, boxes: Tensor, scores: Tensor, levels: Tensor, size: tuple[int, int]) -> Tensor:
        """Keep the best proposals of one image: clipped, not empty, after NMS within each map."""
        finite = torch.isfinite(boxes).all(dim=1) & torch.isfinite(scores)  # that training diverged shows in the losses
        boxes = clip(boxes, size)
        kept = finite & nonempty(boxes, self.settings.min_size)
        boxes, scores, levels = boxes[kept], scores[kept], levels[kept]
        best = batched_nms(boxes, scores, levels, self.settings.nms_threshold)
        return boxes[best[: self.settings.post_nms_topk[self.training]]]
