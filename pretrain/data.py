"""Images in, batches of two views out. Sample i of epoch e depends on (seed, e, i) alone."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision import transforms

from pretrain import augment, randomness
from pretrain.errors import PretrainError
from pretrain.images import ImageSet
from pretrain.permutation import Permutation

REPLACEMENTS = 32  # images tried in place of a broken one; of a set with one in ten broken, 1e-32 fail


class TwoViews(Dataset[tuple[Tensor, Tensor, int, int]]):
    """What the loader makes of (epoch, index): query and key view, (3, size, size) uint8 each, and which image it is.

    An image that cannot be read is replaced by another, the same in every epoch: item (epoch, index) is
    (query, key, index, shown), where `shown` is the index of the image that the views are of.
    """

    def __init__(self, images: ImageSet, view: transforms.Compose, seed: int) -> None:
        self.images, self.view, self.seed = images, view, seed

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, position: tuple[int, int]) -> tuple[Tensor, Tensor, int, int]:
        """Raises PretrainError where the image and all REPLACEMENTS for it are broken."""
        epoch, asked = position
        faults = []
        for shown in self._candidates(asked):
            try:
                image = self.images.read(shown)
            except PretrainError as error:
                faults.append(error)
                continue
            query, key = augment.two_views(image, self.view, randomness.seed_of("views", self.seed, epoch, asked))
            return query, key, asked, shown
        raise PretrainError(
            f"data.root: {faults[0]}; nor can {len(faults) - 1} others that were to be shown in its place. "
            "Is the storage there? tools/check_images.py lists all broken images"
        )

    def _candidates(self, asked: int) -> Iterator[int]:
        """The image itself, then those to show in its place, which depend on the seed and on it alone."""
        yield asked
        for attempt in range(REPLACEMENTS):
            yield randomness.seed_of("replacement", self.seed, asked, attempt) % len(self)


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
        order = Permutation(self.size, randomness.seed_of("order", self.seed, epoch))
        share = self.batch_size // self.world_size
        for number in numbers:
            first = number * self.batch_size + self.rank * share
            yield [(epoch, index) for index in order(np.arange(first, first + share)).tolist()]


def make_loader(dataset: TwoViews, sampler: EpochSampler, workers: int, pin_memory: bool = False) -> DataLoader:
    """Batches made by `workers` processes (0: this one), for `close` when they are no longer needed.

    A batch is query views and key views, (N, 3, size, size) uint8 each, then the indices of the images asked for and
    of those shown, (N,) int64 each; they differ where an image is broken.
    """
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=workers,
        pin_memory=pin_memory,
        persistent_workers=workers > 0,
        generator=torch.Generator(),  # each epoch draws a number; from the default one, a resumed run would miss it
        # A plain fork of a process with threads (torch's, gloo's) may deadlock, and Python 3.12 warns of it.
        multiprocessing_context="forkserver" if workers else None,
    )


def close(loader: DataLoader) -> None:
    """End the loader's processes now, and not when the garbage collector comes to it."""
    iterator, loader._iterator = loader._iterator, None
    shut_down = getattr(iterator, "_shutdown_workers", None)  # torch has no public way; without workers there is none
    if shut_down:
        shut_down()
