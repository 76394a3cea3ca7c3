"""The models as wholes: the bases of all kinds, and the two-stage detector. Images in, losses or detections out."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from transfer.engines.torchvision.modeling.backbone.fpn import FPN
from transfer.engines.torchvision.modeling.backbone.resnet import Backbone, DilatedC5
from transfer.engines.torchvision.modeling.layers.box_ops import clip, nonempty
from transfer.engines.torchvision.modeling.layers.sampling import GroundTruth
from transfer.engines.torchvision.modeling.roi_heads.box_head import Instances
from transfer.engines.torchvision.modeling.roi_heads.mask_head import paste_masks
from transfer.engines.torchvision.modeling.roi_heads.roi_heads import ROIHeads
from transfer.engines.torchvision.modeling.rpn import RPN
from transfer.predictions import Detections

AnyBackbone = Backbone | DilatedC5 | FPN


@dataclass(frozen=True)
class Sample:
    """A training image as the network takes it, and its objects."""

    image: Tensor  # (3, H, W) uint8, channels in INPUT.FORMAT's order
    ground_truth: GroundTruth


class Network(nn.Module):
    """The base of all models: a backbone and its input. The state has Detectron2's names.

    Args:
        pixel_mean, pixel_std: of each channel, in the order of the images' channels.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, backbone: AnyBackbone, pixel_mean: Sequence[float], pixel_std: Sequence[float]) -> None:
        super().__init__()
        self.backbone = backbone
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), persistent=False)

    def batch(self, images: list[Tensor]) -> tuple[Tensor, list[tuple[int, int]]]:
        """Normalise images, and pad them with zeros at right and bottom to one size.

        Args:
            images: (3, h, w) uint8 each.

        Returns:
            (N, 3, H, W) float32, and (h, w) of each image.
        """
        sizes = [(image.shape[-2], image.shape[-1]) for image in images]
        divisor = max(self.backbone.size_divisibility, 1)
        height, width = (-(-max(side) // divisor) * divisor for side in zip(*sizes, strict=True))
        batch = self.pixel_mean.new_zeros((len(images), 3, height, width))
        for padded, image, (h, w) in zip(batch, images, sizes, strict=True):
            padded[:, :h, :w] = (image.to(batch.device) - self.pixel_mean) / self.pixel_std
        return batch, sizes


class Detector(Network):
    """The base of all detectors."""

    def forward(self, samples: list[Sample]) -> dict[str, Tensor]:
        """Compute the losses of a training batch.

        Args:
            samples: images of any sizes, with their objects.

        Returns:
            {name in Detectron2: ()}, to be summed.
        """
        raise NotImplementedError

    def detect(self, images: list[Tensor]) -> list[Instances]:
        """Detect the objects of each image, without gradients.

        Args:
            images: (3, H, W) uint8 each, channels in INPUT.FORMAT's order.

        Returns:
            The instances of each image, boxes (D, 4) XYXY in its pixels, by falling score.
        """
        raise NotImplementedError

    def _targets(self, samples: list[Sample]) -> list[GroundTruth]:
        return [sample.ground_truth.to(self.pixel_mean.device) for sample in samples]


class GeneralizedRCNN(Detector):
    """The two-stage detector: region proposals, and heads that classify them (Faster, Mask and Keypoint R-CNN)."""

    def __init__(
        self,
        backbone: AnyBackbone,
        proposal_generator: RPN,
        roi_heads: ROIHeads,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
    ) -> None:
        super().__init__(backbone, pixel_mean, pixel_std)
        self.proposal_generator, self.roi_heads = proposal_generator, roi_heads

    def forward(self, samples: list[Sample]) -> dict[str, Tensor]:
        """See Detector.forward: the losses of ROIHeads.losses and RPN.forward."""
        targets = self._targets(samples)
        batch, sizes = self.batch([sample.image for sample in samples])
        features = self.backbone(batch)
        proposals, losses = self.proposal_generator(features, sizes, [target.boxes for target in targets])
        return self.roi_heads.losses(features, proposals, targets) | losses

    @torch.no_grad()
    def detect(self, images: list[Tensor]) -> list[Instances]:
        """See Detector.detect."""
        batch, sizes = self.batch(images)
        features = self.backbone(batch)
        proposals, _ = self.proposal_generator(features, sizes)
        return self.roi_heads.detect(features, proposals, sizes)


def postprocess(instances: Instances, size: tuple[int, int], output_size: tuple[int, int]) -> Detections:
    """Rescale detections to the original image, paste their masks, and move them to the CPU.

    Args:
        size: (height, width) in pixels of the network's input, without padding.
        output_size: (height, width) in pixels of the original image.
    """
    y, x = (output / inner for output, inner in zip(output_size, size, strict=True))
    boxes = clip(instances.boxes * instances.boxes.new_tensor([x, y, x, y]), output_size)
    kept = nonempty(boxes)
    boxes = boxes[kept]
    masks = paste_masks(instances.masks[kept], boxes, output_size) if instances.masks is not None else None
    keypoints = None
    if instances.keypoints is not None:
        keypoints = (instances.keypoints[kept] * instances.keypoints.new_tensor([x, y, 1])).cpu()
    return Detections(boxes.cpu(), instances.scores[kept].cpu(), instances.classes[kept].cpu(), masks, keypoints)
