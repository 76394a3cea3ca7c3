"""The yardstick: the recipes as the published code composes them of torchvision's transforms, and what these draw."""

import torch
from PIL import Image, ImageFilter
from torchvision import transforms
from torchvision.transforms import functional

from pretrain.draws import Draw

OPERATIONS = ("brightness", "contrast", "saturation", "hue")  # in the numbering of ColorJitter.get_params


class GaussianBlur:
    """As in SimCLR and MoCo v2."""

    def __init__(self, smallest: float, largest: float) -> None:
        self.smallest, self.largest = smallest, largest

    def __call__(self, image: Image.Image) -> Image.Image:
        return image.filter(ImageFilter.GaussianBlur(radius=self.draw()))

    def draw(self) -> float:
        return torch.empty(()).uniform_(self.smallest, self.largest).item()


def compose(name: str, size: int = 224, crop_scale: tuple[float, float] = (0.2, 1.0)) -> transforms.Compose:
    """RGB PIL image -> (3, size, size) uint8."""
    crop = transforms.RandomResizedCrop(size, scale=crop_scale)
    gray = transforms.RandomGrayscale(p=0.2)
    colours: list[object] = {
        "v1": [gray, transforms.ColorJitter(0.4, 0.4, 0.4, 0.4)],
        "v2": [
            transforms.RandomApply([transforms.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
            gray,
            transforms.RandomApply([GaussianBlur(0.1, 2.0)], p=0.5),
        ],
    }[name]
    return transforms.Compose([crop, *colours, transforms.RandomHorizontalFlip(), functional.pil_to_tensor])


def draw(composed: transforms.Compose, image: Image.Image) -> Draw:
    """What the composed transforms would draw for the image from the default generator as it is now."""
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
        elif isinstance(step, GaussianBlur) and applied:
            sigma = step.draw()
        elif isinstance(step, transforms.RandomGrayscale):
            colours += [("gray", 0.0)] if torch.rand(1) < step.p else []
        elif isinstance(step, transforms.RandomHorizontalFlip):
            flip = bool(torch.rand(1) < step.p)
    return Draw(*box, tuple(colours), sigma, flip)
