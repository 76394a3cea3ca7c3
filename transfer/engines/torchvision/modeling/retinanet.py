"""The detector RetinaNet (arXiv 1708.02002): one stage, which scores every anchor for every class."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import batched_nms, box_iou, sigmoid_focal_loss

from transfer.engines.torchvision.modeling.anchor_generator import AnchorGenerator
from transfer.engines.torchvision.modeling.layers.box_ops import box_loss, decode
from transfer.engines.torchvision.modeling.layers.matcher import IGNORE, match_boxes
from transfer.engines.torchvision.modeling.layers.precision import at_least_float32
from transfer.engines.torchvision.modeling.layers.sampling import GroundTruth
from transfer.engines.torchvision.modeling.layers.weight_init import init_normal
from transfer.engines.torchvision.modeling.meta_arch import AnyBackbone, Detector, Sample
from transfer.engines.torchvision.modeling.roi_heads.box_head import Instances


@dataclass(frozen=True)
class RetinaNetSettings:
    """The settings in MODEL.RETINANET and TEST."""

    num_classes: int
    in_features: list[str]
    box_weights: list[float]
    iou_thresholds: list[float]
    iou_labels: list[int]
    focal_alpha: float
    focal_gamma: float
    smooth_l1_beta: float
    score_threshold: float
    topk_candidates: int  # boxes of each feature map that go into NMS
    nms_threshold: float
    max_detections: int  # of an image


class RetinaNetHead(nn.Module):
    """A head of two towers of 3x3 convolutions, one for classes and one for boxes; shared by the feature maps.

    Args:
        channels: of the maps and of the towers.
        num_convs: convolutions in each tower.
        num_anchors: A, the anchors of a cell.
        num_classes: K.
        prior: initial probability of every class, so that the mass of background does not dominate the first losses.
    """

    def __init__(self, channels: int, num_convs: int, num_anchors: int, num_classes: int, prior: float) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.cls_subnet, self.bbox_subnet = _tower(channels, num_convs), _tower(channels, num_convs)
        self.cls_score = nn.Conv2d(channels, num_anchors * num_classes, 3, padding=1)
        self.bbox_pred = nn.Conv2d(channels, num_anchors * 4, 3, padding=1)
        init_normal(self.cls_score, 0.01)
        init_normal(self.bbox_pred, 0.01)
        nn.init.constant_(self.cls_score.bias, -math.log((1 - prior) / prior))  # type: ignore[arg-type]

    def forward(self, feature: Tensor) -> tuple[Tensor, Tensor]:
        """Predict classes and deltas of one map's anchors.

        Args:
            feature: (N, C, H, W).

        Returns:
            Logits (N, HWA, K) and deltas (N, HWA, 4), in the order of the anchors.
        """
        logits = self.cls_score(self.cls_subnet(feature)).permute(0, 2, 3, 1).flatten(1)
        deltas = self.bbox_pred(self.bbox_subnet(feature)).permute(0, 2, 3, 1).flatten(1)
        return logits.unflatten(1, (-1, self.num_classes)), deltas.unflatten(1, (-1, 4))


class RetinaNet(Detector):
    """The whole one-stage detector: backbone, head and anchors.

    Attributes:
        loss_normalizer: running mean of the number of anchors matched to objects in a batch, which divides the losses.
            It is not a tensor of the model, as in Detectron2; a checkpoint keeps it beside them.
    """

    def __init__(
        self,
        backbone: AnyBackbone,
        head: RetinaNetHead,
        anchor_generator: AnchorGenerator,
        settings: RetinaNetSettings,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
    ) -> None:
        super().__init__(backbone, pixel_mean, pixel_std)
        self.head, self.anchor_generator, self.settings = head, anchor_generator, settings
        self.loss_normalizer = 100.0

    def forward(self, samples: list[Sample]) -> dict[str, Tensor]:
        """See Detector.forward: loss_cls and loss_box_reg."""
        batch, _ = self.batch([sample.image for sample in samples])
        anchors, logits, deltas = self._predict(batch)
        return self._losses(
            torch.cat(anchors), torch.cat(logits, dim=1), torch.cat(deltas, dim=1), self._targets(samples)
        )

    @torch.no_grad()
    def detect(self, images: list[Tensor]) -> list[Instances]:
        """See Detector.detect; boxes are not clipped to the image."""
        batch, _ = self.batch(images)
        anchors, logits, deltas = self._predict(batch)
        return [self._detect(anchors, [x[i] for x in logits], [x[i] for x in deltas]) for i in range(len(images))]

    def _predict(self, batch: Tensor) -> tuple[list[Tensor], tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Predict from a batch (N, 3, H, W): per map m anchors (R_m, 4), logits (N, R_m, K), deltas (N, R_m, 4)."""
        features = self.backbone(batch)
        maps = [features[name] for name in self.settings.in_features]
        logits, deltas = zip(*(self.head(feature) for feature in maps), strict=True)
        return self.anchor_generator(maps), logits, deltas

    def _losses(self, anchors: Tensor, logits: Tensor, deltas: Tensor, targets: list[GroundTruth]) -> dict[str, Tensor]:
        """Compute focal loss and box loss of anchors (R, 4), logits (N, R, K), deltas (N, R, 4)."""
        s = self.settings
        matched = [self._label(anchors, target) for target in targets]
        labels = torch.stack([classes for classes, _ in matched])  # (N, R)
        chosen, objects = labels != IGNORE, (labels != IGNORE) & (labels != s.num_classes)
        self.loss_normalizer = 0.9 * self.loss_normalizer + 0.1 * max(int(objects.sum()), 1)
        wide = at_least_float32(logits[chosen])
        one_hot = F.one_hot(labels[chosen], s.num_classes + 1)[:, :-1].to(wide.dtype)  # the background has none
        focal = sigmoid_focal_loss(wide, one_hot, s.focal_alpha, s.focal_gamma, reduction="sum")
        boxes = anchors.expand(len(targets), -1, -1)[objects]  # (objects, 4)
        gt_boxes = torch.stack([image_boxes for _, image_boxes in matched])[objects]
        box = box_loss(deltas[objects], boxes, gt_boxes, s.box_weights, s.smooth_l1_beta)
        return {"loss_cls": focal / self.loss_normalizer, "loss_box_reg": box / self.loss_normalizer}

    @torch.no_grad()
    def _label(self, anchors: Tensor, target: GroundTruth) -> tuple[Tensor, Tensor]:
        """Return (R,) class of each anchor, K for background, -1 not trained on; and (R, 4) its true box."""
        s = self.settings
        index, labels = match_boxes(box_iou(target.boxes, anchors), s.iou_thresholds, s.iou_labels, keep_best=True)
        if not len(target.boxes):
            return torch.full_like(index, s.num_classes), torch.zeros_like(anchors)
        classes = target.classes[index]
        classes[labels == 0] = s.num_classes
        classes[labels == IGNORE] = IGNORE
        return classes, target.boxes[index]

    def _detect(self, anchors: list[Tensor], logits: list[Tensor], deltas: list[Tensor]) -> Instances:
        """Keep the best of each map above the threshold in one image, after NMS within each class; the best of all."""
        parts = zip(anchors, logits, deltas, strict=True)
        boxes, scores, classes = map(torch.cat, zip(*(self._candidates(*part) for part in parts), strict=True))
        kept = batched_nms(boxes, scores, classes, self.settings.nms_threshold)[: self.settings.max_detections]
        return Instances(boxes[kept], scores[kept], classes[kept])

    def _candidates(self, anchors: Tensor, logits: Tensor, deltas: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return boxes (P, 4), scores (P,), classes (P,) of one map's anchors (R, 4), logits (R, K), deltas (R, 4)."""
        s = self.settings
        scores = logits.float().sigmoid()
        above = torch.nonzero(scores > s.score_threshold)  # (P, 2) anchor, class
        scores = scores[above[:, 0], above[:, 1]]
        scores, best = scores.topk(min(s.topk_candidates, len(scores)))
        anchor, label = above[best].unbind(1)
        return decode(deltas[anchor], anchors[anchor], s.box_weights), scores, label


def _tower(channels: int, num_convs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(num_convs):
        convolution = nn.Conv2d(channels, channels, 3, padding=1)
        init_normal(convolution, 0.01)
        layers += [convolution, nn.ReLU()]
    return nn.Sequential(*layers)
