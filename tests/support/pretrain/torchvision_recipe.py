"""The yardstick: the recipes as the published code composes them of torchvision's transforms, and what these draw."""

import random

import torch
from PIL import Image
from torchvision import transforms
from torchvision.transforms import functional

from benchmarks import published_input
from pretrain.data.augment.params import ViewParams

OPERATIONS = ("brightness", "contrast", "saturation", "hue")  # in the numbering of ColorJitter.get_params


def compose(name: str, size: int = 224, crop_scale: tuple[float, float] = (0.2, 1.0)) -> transforms.Compose:
    """RGB PIL image -> (3, size, size) uint8."""
    return transforms.Compose([*published_input.recipe(name, size, crop_scale), functional.pil_to_tensor])


def seed(number: int) -> None:
    """Seed all that the transforms draw from: torchvision's draw by torch, the published blur by Python."""
    torch.manual_seed(number)
    random.seed(number)


def draw(composed: transforms.Compose, image: Image.Image) -> ViewParams:
    """Return what the composed transforms would draw for the image, from the generators as they are now."""
    crop, *rest = composed.transforms
    box = crop.get_params(image, crop.scale, crop.ratio)
    colours: list[tuple[str, float]] = []
    sigma, flip = 0.0, False
    for step in rest:
        applied = True
        if isinstance(step, transforms.RandomApply):
            applied = not step.p < torch.rand(1)
            (step,) = step.transforms
        if isinstance(step, transforms.ColorJitter) and applied:
            order, *factors = step.get_params(step.brightness, step.contrast, step.saturation, step.hue)
            colours += [(OPERATIONS[number], factors[number]) for number in order.tolist()]
        elif isinstance(step, published_input.GaussianBlur) and applied:
            sigma = step.draw()
        elif isinstance(step, transforms.RandomGrayscale):
            colours += [("gray", 0.0)] if torch.rand(1) < step.p else []
        elif isinstance(step, transforms.RandomHorizontalFlip):
            flip = bool(torch.rand(1) < step.p)
    return ViewParams(*box, tuple(colours), sigma, flip)
