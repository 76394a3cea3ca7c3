"""The sources of features for a linear probe's training: a new crop of every image each epoch, or a cache.

The images of val are not here: neither they nor the backbone ever change, so their features are made once.
"""

import logging
from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision import transforms
from torchvision.transforms import functional

from pretrain.data.images.image_set import ImageSet
from pretrain.data.images.labelled_set import LabelledImages
from pretrain.evaluation import features
from pretrain.models.normalize import normalize
from pretrain.runtime import distributed, seeds
from pretrain.runtime.errors import PretrainError, UserError, listed

MAX_BROKEN = 0.001  # share of the images that may be broken, as in pretraining
log = logging.getLogger(__name__)

Position = tuple[int, int]  # epoch, index of the image


class AugmentedImages(Dataset[tuple[Tensor | None, int, int]]):
    """A data set that makes of (epoch, index) a random crop of the image, (3, size, size) uint8, its label and index.

    The crop and the flip depend only on (seed, epoch, index). RandomResizedCrop has torchvision's scale, as published.
    In place of a broken image there is None.
    """

    def __init__(self, data: LabelledImages, size: int, seed: int) -> None:
        self.data, self.seed = data, seed
        self.view = transforms.Compose(
            [transforms.RandomResizedCrop(size), transforms.RandomHorizontalFlip(), functional.pil_to_tensor]
        )

    def __getitem__(self, position: Position) -> tuple[Tensor | None, int, int]:
        epoch, index = position
        label = int(self.data.labels[index])
        try:
            image = self.data.images.read(index)
        except PretrainError:
            return None, label, index
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seeds.seed_of("probe", self.seed, epoch, index))
            return self.view(image), label, index


class Batches(Sampler[list[Position]]):
    """A new permutation each epoch, cut into global batches, a shorter one last; each rank takes its part of each.

    A DataLoader iterates over it: `choose` says over which epoch.
    """

    def __init__(self, size: int, batch_size: int, seed: int) -> None:
        self.size, self.batch_size, self.seed = size, batch_size, seed
        self._epoch = self._first = 0

    def choose(self, epoch: int, first: int = 0) -> "Batches":
        """Choose the epoch of the next iteration, and its first batch. Returns itself."""
        self._epoch, self._first = epoch, first
        return self

    def __len__(self) -> int:
        return -(-self.size // self.batch_size) - self._first

    def __iter__(self) -> Iterator[list[Position]]:
        """Yield this rank's (epoch, index) of each batch; a short last batch may leave it none."""
        epoch = self._epoch
        order = torch.randperm(self.size, generator=seeds.generator("probe order", self.seed, epoch))
        for batch in order.split(self.batch_size)[self._first :]:
            part = batch.tensor_split(distributed.world_size())[distributed.rank()]
            yield [(epoch, index) for index in part.tolist()]


class FeatureSource(Protocol):
    """A source of the features of an epoch.

    Attributes:
        broken: indices of the images that were left out because they cannot be read, the same on all ranks.
    """

    broken: set[int]

    def epoch(self, epoch: int, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield this rank's features (n, C), on the device, and labels (n,) of each global batch from `first` on.

        n may be 0.
        """


class Crops:
    """The published source: the frozen backbone on a new random crop of every image."""

    def __init__(
        self,
        backbone: nn.Module,
        data: LabelledImages,
        device: torch.device,
        size: int = 224,
        batch_size: int = 256,
        workers: int = 0,
        seed: int = 0,
    ) -> None:
        self.backbone, self.device, self.size, self.images = backbone, device, size, data.images
        self.broken: set[int] = set()
        self.sampler = Batches(len(data.images), batch_size, seed)
        self.loader: DataLoader = DataLoader(
            AugmentedImages(data, size, seed),
            batch_sampler=self.sampler,
            collate_fn=_collate,
            num_workers=workers,
            persistent_workers=workers > 0,
            **features.loader_options(workers, device),
        )

    @torch.no_grad()
    def epoch(self, epoch: int, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """See `FeatureSource`. Raises PretrainError on all ranks where more than MAX_BROKEN of the images are broken.

        Raises what the storage does, on all ranks too.
        """
        self.sampler.choose(epoch, first)
        batches = features.read_batches(self.loader)
        with features.evaluating(self.backbone):
            for _ in range(len(self.sampler)):
                fault, new = None, set[int]()
                try:
                    images, labels, broken = next(batches)
                    new = set(broken.tolist()) - self.broken
                except UserError as error:
                    fault = error
                (news,) = distributed.agree(fault, bool(new))
                if news:
                    self._leave_out(new)
                yield self.backbone(normalize(images.to(self.device, non_blocking=True))), labels

    def _leave_out(self, met: set[int]) -> None:
        """Count the broken images that the ranks have met, and name them. All ranks call it."""
        met = set().union(*distributed.all_gather_object(met))
        refuse_broken("train", self.images, self.broken | met)
        self.broken |= met
        if distributed.is_main():
            names = listed(map(self.images.name, sorted(met)))
            log.warning("warning: train: %d broken images are left out: %s", len(met), names)


def refuse_broken(part: str, images: ImageSet, broken: set[int]) -> None:
    """Raise PretrainError where more than MAX_BROKEN of the images of a part are broken."""
    if len(broken) > MAX_BROKEN * len(images):
        raise PretrainError(
            f"--root: {len(broken)} of the {len(images)} images of {part} cannot be read, more than the share of "
            f"{MAX_BROKEN:g}: {listed(map(images.name, sorted(broken)))}. Put good copies in their places"
        )


class Cached:
    """The fast source: features made once, in batches of the same order.

    Args:
        features: (N, C) of the whole set.
        labels: (N,) int64.
    """

    def __init__(
        self, features: Tensor, labels: Tensor, device: torch.device, batch_size: int = 256, seed: int = 0
    ) -> None:
        self.features, self.labels, self.device = features, labels, device
        self.broken: set[int] = set()
        self.sampler = Batches(len(labels), batch_size, seed)

    def epoch(self, epoch: int, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in self.sampler.choose(epoch, first):
            rows = torch.tensor([index for _, index in batch], dtype=torch.int64)
            yield self.features[rows].to(self.device), self.labels[rows]


def _collate(rows: list[tuple[Tensor | None, int, int]]) -> tuple[Tensor, Tensor, Tensor]:
    """Stack images (n, 3, size, size), labels (n,), and the indices of broken images, which are left out (b,).

    Without images there are none of a size that the backbone takes.
    """
    good = [(image, label) for image, label, _ in rows if image is not None]
    images = torch.stack([image for image, _ in good]) if good else torch.zeros(0, 3, 32, 32, dtype=torch.uint8)
    labels = torch.tensor([label for _, label in good], dtype=torch.int64)
    broken = torch.tensor([index for image, _, index in rows if image is None], dtype=torch.int64)
    return images, labels, broken
