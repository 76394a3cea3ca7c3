"""The second stage of a two-stage detector: the class, box, mask and keypoints of each proposal.

R counts the sampled proposals or regions of all images of a batch together, R_n those of image n, K the classes.
"""

import torch
from torch import Tensor, nn

from transfer.engines.torchvision.modeling.backbone.resnet import rename_state
from transfer.engines.torchvision.modeling.layers.matcher import IGNORE
from transfer.engines.torchvision.modeling.layers.norm import NormFactory
from transfer.engines.torchvision.modeling.layers.sampling import (
    GroundTruth,
    SampledProposals,
    SamplingSettings,
    sample_proposals,
)
from transfer.engines.torchvision.modeling.roi_heads.box_head import BoxHead, BoxPredictor, Instances
from transfer.engines.torchvision.modeling.roi_heads.keypoint_head import (
    KeypointHead,
    heatmaps_to_keypoints,
    keypoints_to_cells,
    shows_any,
)
from transfer.engines.torchvision.modeling.roi_heads.mask_head import MaskHead, mask_loss, select_class_masks
from transfer.engines.torchvision.modeling.roi_heads.pooler import Pooler

Features = dict[str, Tensor]  # {level: (N, C, H, W)}


class ROIHeads(nn.Module):
    """The base of all kinds of heads: sampling, the box losses and the mask loss."""

    box_predictor: BoxPredictor
    mask_head: MaskHead | None

    def __init__(self, sampling: SamplingSettings) -> None:
        super().__init__()
        self.sampling = sampling

    def losses(self, features: Features, proposals: list[Tensor], targets: list[GroundTruth]) -> dict[str, Tensor]:
        """Compute the losses of a training batch.

        Args:
            features: {level: (N, C, H, W)}.
            proposals: (P_n, 4) XYXY of each image, in pixels of the network's input.
            targets: the ground truth of each image.

        Returns:
            {name: ()}: loss_cls, loss_box_reg, and loss_mask or loss_keypoint for the branches there are.
        """
        raise NotImplementedError

    def detect(self, features: Features, proposals: list[Tensor], sizes: list[tuple[int, int]]) -> list[Instances]:
        """Detect the objects of each image.

        Args:
            features: {level: (N, C, H, W)}.
            proposals: (P_n, 4) XYXY of each image, in pixels of the network's input.
            sizes: (height, width) of each image in pixels, without padding; boxes are clipped to it.

        Returns:
            The instances of each image, by falling score.
        """
        raise NotImplementedError

    def _sample(self, proposals: list[Tensor], targets: list[GroundTruth]) -> list[SampledProposals]:
        pairs = zip(proposals, targets, strict=True)
        return [sample_proposals(boxes, target, self.sampling) for boxes, target in pairs]

    def _box_losses(self, features: Tensor, sampled: list[SampledProposals]) -> dict[str, Tensor]:
        """Compute loss_cls and loss_box_reg from the features (R, C) of the sampled proposals."""
        logits, deltas = self.box_predictor(features)
        boxes, classes, gt_boxes = (
            torch.cat([getattr(image, name) for image in sampled]) for name in ("boxes", "classes", "gt_boxes")
        )
        return self.box_predictor.losses(logits, deltas, boxes, classes, gt_boxes)

    def _mask_loss(
        self, features: Tensor, sampled: list[SampledProposals], targets: list[GroundTruth]
    ) -> dict[str, Tensor]:
        """Compute loss_mask.

        Args:
            features: (O, C, H, W) of the sampled proposals that hold an object, in their order.
        """
        logits = self.mask_head(features)  # type: ignore[misc]  # (O, K, M, M)
        masks, classes = [], []
        for image, target in zip(sampled, targets, strict=True):
            chosen = self._holds_object(image)
            classes.append(image.classes[chosen])
            if target.masks is not None:  # an image without objects has none
                masks.append(target.masks.crop(image.objects[chosen], image.boxes[chosen], logits.shape[-1]))
        return {"loss_mask": mask_loss(logits, torch.cat(classes), torch.cat(masks) if masks else logits[:, 0])}

    def _holds_object(self, sampled: SampledProposals) -> Tensor:  # (R_n,) bool
        return (sampled.classes != IGNORE) & (sampled.classes != self.sampling.num_classes)

    def _add_masks(self, features: Tensor, instances: list[Instances]) -> None:
        """Give each instance its mask, from the features (D, C, H, W) of all D detected boxes."""
        classes = torch.cat([image.classes for image in instances])
        probabilities = select_class_masks(self.mask_head(features), classes).float().sigmoid()  # type: ignore[misc]
        counts = [len(image.boxes) for image in instances]
        for image, masks in zip(instances, probabilities.split(counts), strict=True):
            image.masks = masks  # (D_n, M, M)


class StandardROIHeads(ROIHeads):
    """The heads of FPN models: a small network for each branch, on regions of the pyramid's maps."""

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

    def losses(self, features: Features, proposals: list[Tensor], targets: list[GroundTruth]) -> dict[str, Tensor]:
        """See ROIHeads.losses."""
        sampled = self._sample(proposals, targets)
        pooled = self.box_pooler(features, [image.boxes for image in sampled])  # (R, C, H, W)
        losses = self._box_losses(self.box_head(pooled), sampled)
        if self.mask_pooler is not None:
            objects = [image.boxes[self._holds_object(image)] for image in sampled]
            losses |= self._mask_loss(self.mask_pooler(features, objects), sampled, targets)
        if self.keypoint_pooler is not None:
            losses |= self._keypoint_loss(features, sampled, targets)
        return losses

    def detect(self, features: Features, proposals: list[Tensor], sizes: list[tuple[int, int]]) -> list[Instances]:
        """See ROIHeads.detect."""
        logits, deltas = self.box_predictor(self.box_head(self.box_pooler(features, proposals)))
        instances = self.box_predictor.detect(logits, deltas, proposals, sizes)
        if self.mask_pooler is not None:
            self._add_masks(self.mask_pooler(features, [image.boxes for image in instances]), instances)
        if self.keypoint_pooler is not None:
            self._add_keypoints(features, instances)
        return instances

    def _keypoint_loss(
        self, features: Features, sampled: list[SampledProposals], targets: list[GroundTruth]
    ) -> dict[str, Tensor]:
        """Compute loss_keypoint over the proposals that hold an object and show one of its keypoints.

        The others would cost memory and add nothing to the loss.
        """
        boxes, keypoints = [], []
        for image, target in zip(sampled, targets, strict=True):
            chosen = self._holds_object(image)
            gt_keypoints = target.keypoints[image.objects[chosen]]  # type: ignore[index]  # (O_n, K, 3)
            shown = shows_any(gt_keypoints, image.boxes[chosen])
            boxes.append(image.boxes[chosen][shown])
            keypoints.append(gt_keypoints[shown])
        logits = self.keypoint_head(self.keypoint_pooler(features, boxes))  # type: ignore[misc]  # (R, K, S, S)
        cells, within = keypoints_to_cells(torch.cat(keypoints), torch.cat(boxes), logits.shape[-1])
        return {"loss_keypoint": self.keypoint_head.loss(logits, cells, within, len(targets))}  # type: ignore[union-attr]

    def _add_keypoints(self, features: Features, instances: list[Instances]) -> None:
        """Give each instance its keypoints."""
        boxes = [image.boxes for image in instances]
        heatmaps = self.keypoint_head(self.keypoint_pooler(features, boxes)).float()  # type: ignore[misc]
        for image, own in zip(instances, heatmaps.split([len(b) for b in boxes]), strict=True):
            image.keypoints = heatmaps_to_keypoints(own, image.boxes)  # (D_n, K, 3)


class Res5ROIHeads(ROIHeads):
    """The heads of C4 models (arXiv 1512.03385, appendix A): res5 on each region, shared by box and mask branch.

    Args:
        res5: the last stage of the ResNet. Its state gets Detectron2's names.
        channels: of res5's output.
        extra_norm: makes one more norm layer after the stage, as MoCo's Res5ROIHeadsExtraNorm has; None: no such layer.
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

    def losses(self, features: Features, proposals: list[Tensor], targets: list[GroundTruth]) -> dict[str, Tensor]:
        """See ROIHeads.losses."""
        sampled = self._sample(proposals, targets)
        shared = self.res5(self.pooler(features, [image.boxes for image in sampled]))  # (R, C, H, W)
        losses = self._box_losses(shared.mean(dim=(2, 3)), sampled)
        if self.mask_head is not None:
            # The same features, not a second pass: res5's batch statistics would be those of the objects only.
            objects = torch.cat([self._holds_object(image) for image in sampled])
            losses |= self._mask_loss(shared[objects], sampled, targets)
        return losses

    def detect(self, features: Features, proposals: list[Tensor], sizes: list[tuple[int, int]]) -> list[Instances]:
        """See ROIHeads.detect."""
        logits, deltas = self.box_predictor(self.res5(self.pooler(features, proposals)).mean(dim=(2, 3)))
        instances = self.box_predictor.detect(logits, deltas, proposals, sizes)
        if self.mask_head is not None:
            self._add_masks(self.res5(self.pooler(features, [image.boxes for image in instances])), instances)
        return instances
