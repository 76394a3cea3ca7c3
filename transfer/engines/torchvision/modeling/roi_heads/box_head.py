"""The box branch of Fast R-CNN (arXiv 1504.08083): from a region's features to class scores, boxes and losses."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import batched_nms

from transfer.engines.torchvision.modeling.layers.box_ops import box_loss, clip, decode
from transfer.engines.torchvision.modeling.layers.norm import Conv2d, NormFactory
from transfer.engines.torchvision.modeling.layers.precision import at_least_float32
from transfer.engines.torchvision.modeling.layers.weight_init import init_he, init_normal, init_xavier

_ORDINARY = 1e9  # deltas below give finite boxes: a box is at most some thousand pixels wide


@dataclass
class Instances:
    """The detected objects of one image, in pixels of the network's input."""

    boxes: Tensor  # (D, 4) float XYXY
    scores: Tensor  # (D,) in [0, 1], falling
    classes: Tensor  # (D,) int64
    masks: Tensor | None = None  # (D, M, M) probabilities, over each box
    keypoints: Tensor | None = None  # (D, K, 3) x, y, score


@dataclass(frozen=True)
class BoxSettings:
    """The settings of the box branch in MODEL.ROI_BOX_HEAD, MODEL.ROI_HEADS and TEST."""

    num_classes: int
    class_agnostic: bool  # one box for each region instead of one for each class
    box_weights: list[float]
    smooth_l1_beta: float
    box_loss_weight: float
    score_threshold: float
    nms_threshold: float
    max_detections: int  # of an image; negative: all


class BoxHead(nn.Sequential):
    """A stack of convolutions (conv1, ...) and then fully connected layers (fc1, ...), with a ReLU after each.

    Called with the features of regions (R, channels, resolution, resolution), it returns (R, out_channels).

    Args:
        channels, resolution: of a region's features.
        conv_widths, fc_widths: output channels of each convolution and of each fully connected layer.
        norm: makes the norm layer of a convolution; None: it has a bias instead.
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
    """A pair of linear layers: class logits (the background's last) and box deltas of each region."""

    def __init__(self, channels: int, settings: BoxSettings) -> None:
        super().__init__()
        self.settings = settings
        self.cls_score = nn.Linear(channels, settings.num_classes + 1)
        self.bbox_pred = nn.Linear(channels, 4 * (1 if settings.class_agnostic else settings.num_classes))
        init_normal(self.cls_score, 0.01)
        init_normal(self.bbox_pred, 0.001)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Predict the classes and boxes of regions.

        Args:
            features: (R, C).

        Returns:
            Logits (R, K + 1) and deltas (R, 4 K), or (R, 4) if class-agnostic.
        """
        return self.cls_score(features), self.bbox_pred(features)

    def losses(
        self, logits: Tensor, deltas: Tensor, boxes: Tensor, classes: Tensor, gt_boxes: Tensor
    ) -> dict[str, Tensor]:
        """Compute the losses of R regions: cross entropy, and a box loss over the objects, both divided by R.

        Args:
            logits, deltas: what `forward` returned for them.
            boxes, gt_boxes: (R, 4) XYXY in pixels: the regions, and the true box of each (any box for background).
            classes: (R,) int64 true classes, `num_classes` for the background.

        Returns:
            {"loss_cls": (), "loss_box_reg": ()}.
        """
        s = self.settings
        objects = torch.nonzero((classes >= 0) & (classes < s.num_classes)).squeeze(1)
        if s.class_agnostic:
            chosen = deltas[objects]
        else:
            chosen = deltas.unflatten(1, (-1, 4))[objects, classes[objects]]  # (objects, 4)
        box = box_loss(chosen, boxes[objects], gt_boxes[objects], s.box_weights, s.smooth_l1_beta)
        logits = at_least_float32(logits)
        cross_entropy = F.cross_entropy(logits, classes) if len(classes) else logits.sum() * 0.0
        return {"loss_cls": cross_entropy, "loss_box_reg": box / max(len(classes), 1) * s.box_loss_weight}

    def detect(
        self, logits: Tensor, deltas: Tensor, proposals: list[Tensor], image_sizes: list[tuple[int, int]]
    ) -> list[Instances]:
        """Turn the predictions for all proposals into the detections of each image.

        Args:
            logits, deltas: what `forward` returned for the proposals of all images together.
            proposals: (P_n, 4) XYXY of each image, in pixels of the network's input.
            image_sizes: (height, width) of each image in pixels, without padding; boxes are clipped to it.

        Returns:
            The instances of each image, by falling score, without masks and keypoints.
        """
        counts = [len(boxes) for boxes in proposals]
        scores = logits.float().softmax(dim=-1).split(counts)
        parts = zip(deltas.split(counts), proposals, scores, image_sizes, strict=True)
        return [self._detect(*part) for part in parts]

    def _detect(self, deltas: Tensor, proposals: Tensor, scores: Tensor, size: tuple[int, int]) -> Instances:
        """Keep the boxes of one image above the threshold, after NMS within each class, at most `max_detections`.

        Only boxes above it are decoded: of 1000 proposals with a box for each of 1230 classes, that is few of them.

        Args:
            deltas: (P, 4 K) or (P, 4).
            proposals: (P, 4) XYXY.
            scores: (P, K + 1) probabilities.
        """
        finite = self._decode_to_finite(deltas, proposals) & torch.isfinite(scores).all(dim=1)  # (P,)
        likely = (scores[:, :-1] > self.settings.score_threshold) & finite[:, None]  # (P, K)
        region, label = torch.nonzero(likely).unbind(1)  # (D,)
        chosen = deltas.unflatten(1, (-1, 4))[region, 0 if self.settings.class_agnostic else label]  # (D, 4)
        boxes = clip(decode(chosen, proposals[region], self.settings.box_weights), size)
        scores = scores[region, label]
        kept = batched_nms(boxes, scores, label, self.settings.nms_threshold)
        if self.settings.max_detections >= 0:
            kept = kept[: self.settings.max_detections]
        return Instances(boxes[kept], scores[kept], label[kept])

    def _decode_to_finite(self, deltas: Tensor, proposals: Tensor) -> Tensor:
        """Return (P,) bool, True where all boxes of a proposal are finite; a proposal with another is left out whole.

        Args:
            deltas: (P, 4 K) or (P, 4).
            proposals: (P, 4) XYXY.
        """
        finite = (deltas.float().abs().amax(dim=1) < _ORDINARY) & torch.isfinite(proposals).all(dim=1)
        doubtful = torch.nonzero(~finite).squeeze(1)
        boxes = decode(deltas[doubtful], proposals[doubtful], self.settings.box_weights)
        finite[doubtful] = torch.isfinite(boxes).all(dim=1)
        return finite
