"""Images in, batches of two views out. Sample i of epoch e depends on (seed, e, i) alone."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from pretrain.data.augment import gpu, opencv, pil
from pretrain.data.augment.params import Draw, two_draws
from pretrain.data.augment.recipe import Recipe
from pretrain.data.images.image_set import ImageSet
from pretrain.runtime import seeds
from pretrain.runtime.errors import PretrainError

REPLACEMENTS = 32  # images tried in place of a broken one; of a set with one in ten broken, 1e-32 fail


class Batch(NamedTuple):
    """N images in two views. Views are channels last in memory, the layout in which images are decoded and resized."""

    query: Tensor  # (N, 3, size, size) uint8; of pipeline device crops, for gpu.augment_batch
    key: Tensor  # (N, 3, size, size) uint8
    asked: Tensor  # (N,) int64: indices of the images asked for
    shown: Tensor  # (N,) int64: indices of the images that the views are of; another one where an image is broken
    draws: Tensor  # (N, 2, D) float32: what is left to do to query and key on the device; D is 0 where nothing is


class Pipeline(NamedTuple):
    """How views are made in a worker."""

    read: Callable[[ImageSet, int], Any]  # the image at an index, as `view` takes it
    view: Callable[[Any, Draw, int], npt.NDArray[np.uint8]]  # image, draw, size -> (size, size, 3)
    encode: Callable[[Draw], list[float]]  # what is left to do on the device


PIPELINES = {
    "published": Pipeline(ImageSet.read, pil.view, lambda draw: []),
    "fast": Pipeline(ImageSet.read_array, opencv.view, lambda draw: []),
    "device": Pipeline(ImageSet.read_array, opencv.crop, gpu.encode),
}


class TwoViews(Dataset[Batch]):
    """What the loader makes of a list of (epoch, index): a Batch. Each row depends on (seed, epoch, index) alone.

    An image that cannot be read is replaced by another, the same in every epoch.
    """

    def __init__(self, images: ImageSet, recipe: Recipe, seed: int, pipeline: str = "published") -> None:
        """`pipeline` is a name of PIPELINES."""
        self.images, self.recipe, self.seed, self.pipeline = images, recipe, seed, pipeline

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, positions: Sequence[tuple[int, int]]) -> Batch:
        """Raises PretrainError where an image and all REPLACEMENTS for it are broken."""
        _, view, encode = PIPELINES[self.pipeline]
        size = self.recipe.size
        views = torch.empty(2, len(positions), size, size, 3, dtype=torch.uint8)
        pixels = views.numpy()
        shown = torch.empty(len(positions), dtype=torch.int64)
        rows = []
        for number, (epoch, index) in enumerate(positions):
            shown[number], image = self._read(index)
            seed = seeds.seed_of("views", self.seed, epoch, index)
            draws = two_draws(self.recipe, *_height_and_width(image), seed)
            for side, draw in enumerate(draws):
                pixels[side, number] = view(image, draw, size)
            rows.append([encode(draw) for draw in draws])
        query, key = views.permute(0, 1, 4, 2, 3)
        asked = torch.tensor([index for _, index in positions])
        return Batch(query, key, asked, shown, torch.tensor(rows, dtype=torch.float32))

    def _read(self, asked: int) -> tuple[int, Any]:
        """The index of the image to show, and that image."""
        faults = []
        for shown in self._candidates(asked):
            try:
                return shown, PIPELINES[self.pipeline].read(self.images, shown)
            except PretrainError as error:
                faults.append(error)
        raise PretrainError(
            f"data.root: {faults[0]}; nor can {len(faults) - 1} others that were to be shown in its place. "
            "Is the storage there? tools/check_images.py lists all broken images"
        )

    def _candidates(self, asked: int) -> Iterator[int]:
        """The image itself, then those to show in its place, which depend on the seed and on it alone."""
        yield asked
        for attempt in range(REPLACEMENTS):
            yield seeds.seed_of("replacement", self.seed, asked, attempt) % len(self)


def _height_and_width(image: Any) -> tuple[int, int]:
    return (image.height, image.width) if isinstance(image, Image.Image) else image.shape[:2]
