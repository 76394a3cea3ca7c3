"""The published augmentations of MoCo v1 (arXiv 1911.05722, section 3.3) and v2 (arXiv 2003.04297), on PIL images.

Views leave as uint8: a quarter of the bytes on the way from the loader; `normalize` does the rest on the device.
"""

import torch
from PIL import Image, ImageFilter
from torch import Tensor
from torchvision import transforms
from torchvision.transforms import functional

MEAN = (0.485, 0.456, 0.406)  # of ImageNet, RGB in [0, 1]
STD = (0.229, 0.224, 0.225)


class GaussianBlur:
    """Blur with a standard deviation drawn from [smallest, largest] pixels, as in SimCLR and MoCo v2."""

    def __init__(self, smallest: float, largest: float) -> None:
        self.smallest, self.largest = smallest, largest

    def __call__(self, image: Image.Image) -> Image.Image:
        sigma = torch.empty(()).uniform_(self.smallest, self.largest).item()
        return image.filter(ImageFilter.GaussianBlur(radius=sigma))


def recipe(name: str, size: int = 224, crop_scale: tuple[float, float] = (0.2, 1.0)) -> transforms.Compose:
    """The transform of one view: RGB PIL image -> (3, size, size) uint8.

    Args:
        name: `v1` (crop, gray, jitter, flip) or `v2` (crop, jitter, gray, blur, flip), in the published orders.
        size: side of the view in pixels.
        crop_scale: smallest and largest share of the image that a crop covers.
    """
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


def two_views(image: Image.Image, view: transforms.Compose, seed: int) -> tuple[Tensor, Tensor]:
    """Query and key view of an image, (3, size, size) uint8 each; the same for the same seed, whatever came before."""
    with torch.random.fork_rng(devices=[]):
        # torchvision draws from the default generator. torch.manual_seed would also walk through every GPU.
        torch.default_generator.manual_seed(seed)
        return view(image), view(image)


def normalize(images: Tensor) -> Tensor:
    """(N, 3, H, W) uint8 -> float32 of ImageNet's mean and deviation, as torchvision's ToTensor and Normalize."""
    mean = torch.tensor(MEAN, device=images.device).view(3, 1, 1)
    std = torch.tensor(STD, device=images.device).view(3, 1, 1)
    return images.float().div_(255).sub_(mean).div_(std)
