"""The input of MoCo as it was published in 2020: PIL and torchvision in the loader's workers, views as float32."""

import io
import random
from collections.abc import Sequence
from typing import Any

from PIL import Image, ImageFilter
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from pretrain.data.images.image_set import ImageSet


class GaussianBlur:
    """The blur of SimCLR with a random deviation in pixels, by PIL."""

    def __init__(self, smallest: float, largest: float) -> None:
        self.smallest, self.largest = smallest, largest

    def __call__(self, image: Image.Image) -> Image.Image:
        return image.filter(ImageFilter.GaussianBlur(self.draw()))

    def draw(self) -> float:
        """A deviation."""
        return random.uniform(self.smallest, self.largest)


def recipe(name: str, size: int, crop_scale: tuple[float, float] = (0.2, 1.0)) -> list[Any]:
    """The published transforms of one view, `v1` or `v2`, one after the other: RGB PIL image -> size x size."""
    gray = transforms.RandomGrayscale(p=0.2)
    colours = {
        "v1": [gray, transforms.ColorJitter(0.4, 0.4, 0.4, 0.4)],
        "v2": [
            transforms.RandomApply([transforms.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
            gray,
            transforms.RandomApply([GaussianBlur(0.1, 2.0)], p=0.5),
        ],
    }[name]
    return [transforms.RandomResizedCrop(size, scale=crop_scale), *colours, transforms.RandomHorizontalFlip()]


class PublishedViews(Dataset[list[Tensor]]):
    """A data set whose item i is the query and key view of image i, (3, size, size) float32 each, normalised."""

    def __init__(self, images: ImageSet, recipe: Sequence[Any]) -> None:
        self.images = images
        normalize = transforms.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
        self.view = transforms.Compose([*recipe, transforms.ToTensor(), normalize])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> list[Tensor]:
        with Image.open(io.BytesIO(self.images.read_bytes(index))) as file:
            image = file.convert("RGB")
        return [self.view(image), self.view(image)]


def make_loader(dataset: PublishedViews, batch_size: int, workers: int, pin_memory: bool = False) -> DataLoader:
    """Return a loader of shuffled batches [query views, key views], (N, 3, size, size) float32 each."""
    return DataLoader(
        dataset,
        batch_size=batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        pin_memory=pin_memory,
        # As ours: the published script forked once an epoch, which is of no weight in a long one.
        persistent_workers=workers > 0,
        multiprocessing_context="forkserver" if workers else None,
    )
