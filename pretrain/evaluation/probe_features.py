"""The sources of features for a linear probe's training: a new crop of every image each epoch, or a cache.

The images of val are not here: neither they nor the backbone ever change, so their features are made once.
"""

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision import transforms
from torchvision.transforms import functional

from pretrain.data.images.labelled_set import LabelledImages
from pretrain.evaluation import features
from pretrain.models.normalize import normalize
from pretrain.runtime import distributed, seeds
from pretrain.runtime.errors import UserError

Position = tuple[int, int]  # epoch, index of the image


class AugmentedImages(Dataset[tuple[Tensor, int]]):
    """A data set that makes of (epoch, index) a random crop of the image, (3, size, size) uint8, and its label.

    The crop and the flip depend only on (seed, epoch, index). RandomResizedCrop has torchvision's scale, as published.
    """

    def __init__(self, data: LabelledImages, size: int, seed: int) -> None:
        self.data, self.seed = data, seed
        self.view = transforms.Compose(
            [transforms.RandomResizedCrop(size), transforms.RandomHorizontalFlip(), functional.pil_to_tensor]
        )

    def __getitem__(self, position: Position) -> tuple[Tensor, int]:
        epoch, index = position
        image = self.data.images.read(index)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seeds.seed_of("probe", self.seed, epoch, index))
            return self.view(image), int(self.data.labels[index])


class Batches(Sampler[list[Position]]):
    """A new permutation each epoch, cut into global batches, a shorter one last; each rank takes its part of each.

    A DataLoader iterates over it: `choose` says over which epoch.
    """

    def __init__(self, size: int, batch_size: int, seed: int) -> None:
        self.size, self.batch_size, self.seed = size, batch_size, seed
        self._epoch = 0

    def choose(self, epoch: int) -> "Batches":
        """Choose the epoch of the next iteration. Returns itself."""
        self._epoch = epoch
        return self

    def __len__(self) -> int:
        return -(-self.size // self.batch_size)

    def __iter__(self) -> Iterator[list[Position]]:
        """Yield this rank's (epoch, index) of each batch; a short last batch may leave it none."""
        epoch = self._epoch
        order = torch.randperm(self.size, generator=seeds.generator("probe order", self.seed, epoch))
        for batch in order.split(self.batch_size):
            part = batch.tensor_split(distributed.world_size())[distributed.rank()]
            yield [(epoch, index) for index in part.tolist()]


class FeatureSource(Protocol):
    """A source of the features of an epoch."""

    def epoch(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield this rank's features (n, C), on the device, and labels (n,) of each global batch; n may be 0."""


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
        self.backbone, self.device, self.size = backbone, device, size
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
    def epoch(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """See `FeatureSource`. Raises PretrainError on all ranks, naming the image, where a rank cannot read one."""
        self.sampler.choose(epoch)
        batches = features.read_batches(self.loader)
        with features.evaluating(self.backbone):
            for _ in range(len(self.sampler)):
                fault = None
                try:
                    images, labels = next(batches)
                except UserError as error:
                    fault = error
                distributed.agree(fault)
                yield self.backbone(normalize(images.to(self.device, non_blocking=True))), labels


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
        self.sampler = Batches(len(labels), batch_size, seed)

    def epoch(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in self.sampler.choose(epoch):
            rows = torch.tensor([index for _, index in batch], dtype=torch.int64)
            yield self.features[rows].to(self.device), self.labels[rows]


def _collate(rows: list[tuple[Tensor, int]]) -> tuple[Tensor, Tensor]:
    """Stack images and labels: (n, 3, size, size) and (n,), also for n = 0, with a size that the backbone takes."""
    images = torch.stack([image for image, _ in rows]) if rows else torch.zeros(0, 3, 32, 32, dtype=torch.uint8)
    return images, torch.tensor([label for _, label in rows], dtype=torch.int64)
