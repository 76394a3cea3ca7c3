"""A detector: images in, losses or detections out. What all kinds share, and the two-stage kind."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from transfer.engines.torchvision.modeling.backbone.fpn import FPN
from transfer.engines.torchvision.modeling.backbone.resnet import Backbone, DilatedC5
from transfer.engines.torchvision.modeling.box_ops import clip, nonempty
from transfer.engines.torchvision.modeling.roi_heads.box_head import Found
from transfer.engines.torchvision.modeling.roi_heads.mask_head import paste
from transfer.engines.torchvision.modeling.roi_heads.roi_heads import ROIHeads
from transfer.engines.torchvision.modeling.rpn import RPN
from transfer.engines.torchvision.modeling.sampling import Truth
from transfer.predictions import Detections

AnyBackbone = Backbone | DilatedC5 | FPN


@dataclass(frozen=True)
class Sample:
    """One training image as the network takes it, and what is in it."""

    image: Tensor  # (3, H, W) uint8, channels in INPUT.FORMAT's order
    truth: Truth


class Detector(nn.Module):
    """A backbone and how images come to it. Its state has Detectron2's names.

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

    def forward(self, samples: list[Sample]) -> dict[str, Tensor]:
        """The losses of a training batch, by Detectron2's names."""
        raise NotImplementedError

    def detect(self, images: list[Tensor]) -> list[Found]:
        """The detections in each image (3, H, W) uint8, in its pixels."""
        raise NotImplementedError

    def batch(self, images: list[Tensor]) -> tuple[Tensor, list[tuple[int, int]]]:
        """Normalise, and pad with zeros at right and bottom to one size: (N, 3, H, W), and each image's own size."""
        sizes = [(image.shape[-2], image.shape[-1]) for image in images]
        divisor = max(self.backbone.size_divisibility, 1)
        height, width = (-(-max(side) // divisor) * divisor for side in zip(*sizes, strict=True))
        batch = self.pixel_mean.new_zeros((len(images), 3, height, width))
        for place, image, (h, w) in zip(batch, images, sizes, strict=True):
            place[:, :h, :w] = (image.to(batch.device) - self.pixel_mean) / self.pixel_std
        return batch, sizes

    def _truths(self, samples: list[Sample]) -> list[Truth]:
        return [sample.truth.to(self.pixel_mean.device) for sample in samples]


class GeneralizedRCNN(Detector):
    """Region proposals, and heads that say what is in them (Faster, Mask and Keypoint R-CNN)."""

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
        """loss_cls, loss_box_reg, loss_rpn_cls, loss_rpn_loc, and loss_mask or loss_keypoint where there is such."""
        truths = self._truths(samples)
        batch, sizes = self.batch([sample.image for sample in samples])
        features = self.backbone(batch)
        proposals, losses = self.proposal_generator(features, sizes, [truth.boxes for truth in truths])
        return self.roi_heads.losses(features, proposals, truths) | losses

    @torch.no_grad()
    def detect(self, images: list[Tensor]) -> list[Found]:
        batch, sizes = self.batch(images)
        features = self.backbone(batch)
        proposals, _ = self.proposal_generator(features, sizes)
        return self.roi_heads.detect(features, proposals, sizes)


def postprocess(found: Found, size: tuple[int, int], output_size: tuple[int, int]) -> Detections:
    """Bring detections from the network's image of `size` (height, width) to one of `output_size`, onto the CPU."""
    y, x = (output / inner for output, inner in zip(output_size, size, strict=True))
    boxes = clip(found.boxes * found.boxes.new_tensor([x, y, x, y]), output_size)
    kept = nonempty(boxes)
    boxes = boxes[kept]
    masks = paste(found.masks[kept], boxes, output_size).cpu() if found.masks is not None else None
    keypoints = None
    if found.keypoints is not None:
        keypoints = (found.keypoints[kept] * found.keypoints.new_tensor([x, y, 1])).cpu()
    return Detections(boxes.cpu(), found.scores[kept].cpu(), found.classes[kept].cpu(), masks, keypoints)
