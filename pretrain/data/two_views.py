"""Images in, batches of two views out. Sample i of epoch e depends on (seed, e, i) alone."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from pretrain.data.augment import gpu, opencv, pil
from pretrain.data.augment.params import Draw, two_draws
from pretrain.data.augment.recipe import Recipe
from pretrain.data.images.image_set import ImageSet
from pretrain.data.sampler import Permutation
from pretrain.runtime import seeds
from pretrain.runtime.errors import PretrainError

REPLACEMENTS = 32  # images tried in place of a broken one; of a set with one in ten broken, 1e-32 fail


class Batch(NamedTuple):
    """N images in two views. Views are channels last in memory, the layout in which images are decoded and resized."""

    query: Tensor  # (N, 3, size, size) uint8; of pipeline device crops, for augment_device.augment_batch
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


class EpochSampler(Sampler[list[tuple[int, int]]]):
    """One permutation of all images an epoch, cut into global batches, the tail dropped; rank r takes slice r of each.

    Yields this rank's (epoch, index) of each batch, in memory that does not grow with the number of images. The
    batches are the same for any number of ranks.

    Attributes, to set before iterating:
        epoch: which permutation.
        skip: how many batches of the epoch are done already, and are left out.
    """

    def __init__(self, size: int, batch_size: int, seed: int, rank: int = 0, world_size: int = 1) -> None:
        """`batch_size` is the global one, a multiple of `world_size`."""
        if size < batch_size:
            raise PretrainError(
                f"optim.batch_size: {batch_size} is more than the {size} images found; take fewer or add images"
            )
        self.size, self.batch_size, self.seed = size, batch_size, seed
        self.rank, self.world_size = rank, world_size
        self.epoch = self.skip = 0

    def __len__(self) -> int:
        """Batches of a whole epoch, whatever `skip` is."""
        return self.size // self.batch_size

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return self._batches(self.epoch, range(self.skip, len(self)))  # as the attributes are now

    def _batches(self, epoch: int, numbers: range) -> Iterator[list[tuple[int, int]]]:
        order = Permutation(self.size, seeds.seed_of("order", self.seed, epoch))
        share = self.batch_size // self.world_size
        for number in numbers:
            first = number * self.batch_size + self.rank * share
            yield [(epoch, index) for index in order(np.arange(first, first + share)).tolist()]


def make_loader(dataset: TwoViews, sampler: EpochSampler, workers: int, pin_memory: bool = False) -> DataLoader:
    """Loader of a Batch for each of the sampler's, made by `workers` processes (0: this one); `close` ends them."""
    return DataLoader(
        dataset,
        batch_size=None,  # the dataset itself makes batches: of the sampler's lists
        sampler=sampler,
        num_workers=workers,
        pin_memory=pin_memory,
        persistent_workers=workers > 0,
        generator=torch.Generator(),  # each epoch draws a number; from the default one, a resumed run would miss it
        # A plain fork of a process with threads (torch's, gloo's) may deadlock, and Python 3.12 warns of it.
        multiprocessing_context="forkserver" if workers else None,
        worker_init_fn=_take_one_core if workers else None,
    )


def close(loader: DataLoader) -> None:
    """End the loader's processes now, and not when the garbage collector comes to it."""
    iterator, loader._iterator = loader._iterator, None
    shut_down = getattr(iterator, "_shutdown_workers", None)  # torch has no public way; without workers there is none
    if shut_down:
        shut_down()


def _take_one_core(_: int) -> None:
    cv2.setNumThreads(0)  # torch's are set to one by its loader


def _height_and_width(image: Any) -> tuple[int, int]:
    return (image.height, image.width) if isinstance(image, Image.Image) else image.shape[:2]
