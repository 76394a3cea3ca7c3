"""The two views of each image of a batch. Sample i of epoch e depends only on (seed, e, i)."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from pretrain.data.augment import gpu, opencv, pil
from pretrain.data.augment.params import ViewParams, draw_two_views
from pretrain.data.augment.recipe import Recipe
from pretrain.data.images.image_set import ImageSet
from pretrain.runtime import seeds
from pretrain.runtime.errors import PretrainError, StorageError, UserError

REPLACEMENTS = 32  # images tried in place of a broken one; in a set with one in ten broken, 1e-32 fail


class Batch(NamedTuple):
    """A batch of N images in one or two views, channels last in memory: as images are decoded and resized."""

    query: Tensor  # (N, 3, size, size) uint8; of pipeline device crops, for gpu.augment_batch
    key: Tensor  # (N, 3, size, size) uint8; `query` itself where only one view is made
    requested: Tensor  # (N,) int64: indices of the images that the sampler named
    used: Tensor  # (N,) int64: indices of the images that the views are of; another one where an image is broken
    draws: Tensor  # (N, views, D) float32: what is left to do to each view on the device; D is 0 where nothing is


class Pipeline(NamedTuple):
    """The steps by which a loader worker makes views."""

    read: Callable[[ImageSet, int], Any]  # the image at an index, as `view` takes it
    view: Callable[[Any, ViewParams, int], npt.NDArray[np.uint8]]  # image, draw, size -> (size, size, 3)
    encode: Callable[[ViewParams], list[float]]  # what is left to do on the device


PIPELINES = {
    "published": Pipeline(ImageSet.read, pil.view, lambda draw: []),
    "fast": Pipeline(ImageSet.read_array, opencv.view, lambda draw: []),
    "device": Pipeline(ImageSet.read_array, opencv.crop, gpu.encode),
}


class TwoViews(Dataset[Batch]):
    """The Batch of a list of (epoch, index). Each row depends only on (seed, epoch, index).

    An image that cannot be read is replaced by another, the same in every epoch.
    """

    def __init__(
        self, images: ImageSet, recipe: Recipe, seed: int, pipeline: str = "published", views: int = 2
    ) -> None:
        """See the class; `pipeline` is a name of PIPELINES. With one view, query and key are the same."""
        self.images, self.recipe, self.seed, self.pipeline = images, recipe, seed, pipeline
        self.views = views

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, positions: Sequence[tuple[int, int]]) -> Batch:
        """Make a Batch. Raises PretrainError where an image and all REPLACEMENTS for it are broken, or StorageError."""
        _, view, encode = PIPELINES[self.pipeline]
        size = self.recipe.size
        views = torch.empty(self.views, len(positions), size, size, 3, dtype=torch.uint8)
        pixels = views.numpy()
        used = torch.empty(len(positions), dtype=torch.int64)
        rows = []
        for number, (epoch, index) in enumerate(positions):
            used[number], image = self._read(index)
            seed = seeds.seed_of("views", self.seed, epoch, index)
            draws = draw_two_views(self.recipe, *_height_and_width(image), seed)[: self.views]
            for side, draw in enumerate(draws):
                pixels[side, number] = view(image, draw, size)
            rows.append([encode(draw) for draw in draws])
        made = views.permute(0, 1, 4, 2, 3)
        requested = torch.tensor([index for _, index in positions])
        return Batch(made[0], made[-1], requested, used, torch.tensor(rows, dtype=torch.float32))

    def _read(self, requested: int) -> tuple[int, Any]:
        """Return the index of the image to use, and that image."""
        faults: list[UserError] = []
        for used in self._candidates(requested):
            try:
                return used, PIPELINES[self.pipeline].read(self.images, used)
            except (PretrainError, StorageError) as error:
                faults.append(error)
        others = f"{len(faults) - 1} others, tried in its place, cannot be read either"
        outage = next((fault for fault in faults if isinstance(fault, StorageError)), None)
        if outage:
            raise StorageError(f"data.root: {outage}; {others}")
        raise PretrainError(
            f"data.root: {faults[0]}; {others}. Is the storage there? tools/check_images.py lists all broken images"
        )

    def _candidates(self, requested: int) -> Iterator[int]:
        """Yield the image itself, then those to use in its place, which depend only on the seed and on it."""
        yield requested
        for attempt in range(REPLACEMENTS):
            yield seeds.seed_of("replacement", self.seed, requested, attempt) % len(self)


def _height_and_width(image: Any) -> tuple[int, int]:
    return (image.height, image.width) if isinstance(image, Image.Image) else image.shape[:2]
