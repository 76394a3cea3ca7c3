"""The normalisation of images by ImageNet's statistics, on the device that they are on."""

import functools

import torch
from torch import Tensor

MEAN = (0.485, 0.456, 0.406)  # of ImageNet, RGB in [0, 1]
STD = (0.229, 0.224, 0.225)


def normalize(images: Tensor) -> Tensor:
    """Normalise (N, 3, H, W) uint8 to float32 by ImageNet's statistics, as torchvision's ToTensor and Normalize do."""
    mean, std = _statistics(images.device)
    return images.float().div_(255).sub_(mean).div_(std)


@functools.cache  # to send them to a GPU anew for each batch would make the host wait for it
def _statistics(device: torch.device) -> tuple[Tensor, Tensor]:
    return torch.tensor(MEAN, device=device).view(3, 1, 1), torch.tensor(STD, device=device).view(3, 1, 1)
