"""The features of a set of images: the output of an encoder before its projection head, computed on all ranks.

Every image is seen as in the published evaluation: shorter side to 256/224 of the size, centre crop, normalised.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.transforms import functional

from pretrain.data.images.image_set import ImageSet
from pretrain.models.encoders import headless
from pretrain.models.normalize import normalize
from pretrain.runtime import distributed
from pretrain.runtime.errors import PretrainError, UserError, from_worker
from pretrain.runtime.hangs import clock
from pretrain.runtime.signals import Stopped, StopRequest

LONGEST = 16  # times the shorter side: longer images are cut before they are resized


class CentreCrops(Dataset[tuple[Tensor, bool]]):
    """A data set of (3, size, size) uint8: each image resized with antialiasing, its middle cut out.

    With each comes whether it could be read; where `marks_broken`, a broken image is a black one that could not, else
    it raises PretrainError.
    """

    def __init__(self, images: ImageSet, size: int, marks_broken: bool = False) -> None:
        self.images, self.size, self.marks_broken = images, size, marks_broken
        self.crop = transforms.Compose(
            [transforms.Resize(round(size * 256 / 224)), transforms.CenterCrop(size), functional.pil_to_tensor]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, bool]:
        try:
            return self.crop(_middle(self.images.read(index))), True
        except PretrainError:
            if not self.marks_broken:
                raise
            return torch.zeros(3, self.size, self.size, dtype=torch.uint8), False


def _middle(image: Image.Image) -> Image.Image:
    """Return the part of a very long image that its centre crop is made of; any other image as it is.

    Resized as a whole, an image of 1 x 30,000 pixels would take 6 GB.
    """
    short, long = sorted(image.size)
    if long <= LONGEST * short:
        return image
    width, height = (min(side, 4 * short) for side in image.size)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def extract_features(
    encoder: nn.Module,
    images: ImageSet,
    device: torch.device,
    size: int = 224,
    batch_size: int = 128,
    workers: int = 0,
    on_batch: Callable[[int], None] | None = None,
) -> Tensor:
    """Compute the features of all images, (len(images), C) float32 on the CPU, in their order, on every rank.

    The arguments are those of `extract_own_share`; each rank holds all features, so it takes more memory.
    """
    return gather_shares(extract_own_share(encoder, images, device, size, batch_size, workers, on_batch), len(images))


@torch.no_grad()
def extract_own_share(
    encoder: nn.Module,
    images: ImageSet,
    device: torch.device,
    size: int = 224,
    batch_size: int = 128,
    workers: int = 0,
    on_batch: Callable[[int], None] | None = None,
    stop: StopRequest | None = None,
    broken: list[int] | None = None,
) -> Tensor:
    """Compute the features of this rank's share of the images, (n, C) float32 on the CPU. All ranks must call it.

    Args:
        encoder: a torchvision ResNet with any head; runs in eval mode and is left as it was. Lies on `device`.
        size: side of the crop in pixels.
        batch_size: images of one forward pass; changes no feature but by float rounding.
        workers: processes that read images (0: this one).
        on_batch: called with the number of images of each batch that is done.
        stop: looked at after each batch.
        broken: where given, the indices of this rank's broken images are added to it; their features mean nothing.

    Raises PretrainError on all ranks, naming the image, where one cannot be read (without `broken`), and where a
    feature is not finite; signals.Stopped on all ranks where one of them was asked to stop.
    """
    body = headless(encoder)
    fault: UserError | Stopped | None = None
    own, first = share_of_rank(len(images)), 0
    with clock.within("features"):
        with evaluating(encoder):
            # First what a share without images gives: (0, C).
            parts = [body(torch.zeros(1, 3, 32, 32, device=device))[:0].float().cpu()]
            try:
                for crops, readable in read_batches(
                    DataLoader(
                        CentreCrops(images, size, marks_broken=broken is not None),
                        sampler=own,
                        batch_size=batch_size,
                        num_workers=workers,
                        **loader_options(workers, device),
                    )
                ):
                    parts.append(body(normalize(crops.to(device, non_blocking=True))).float().cpu())
                    if broken is not None:
                        broken += [own[first + row] for row in (~readable).nonzero().flatten().tolist()]
                    first += len(crops)
                    clock.came_further(f"{first} of {len(own)} images")
                    if on_batch:
                        on_batch(len(crops))
                    if stop and stop.name:
                        raise Stopped("in a validation, of which nothing is saved")
            except (UserError, Stopped) as error:
                fault = error
        features = torch.cat(parts)
        if fault is None and not features.isfinite().all():
            fault = PretrainError("the backbone gives features that are not finite (NaN or infinity)")
        clock.wait_for_others()
        distributed.agree(fault)
    return features


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put the module in eval mode for the block; at its end each part is in the mode it was in."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def share_of_rank(length: int) -> range:
    """Return this rank's part of `length` things: consecutive ones, on the last ranks fewer, or none."""
    most = -(-length // distributed.world_size())
    first = min(distributed.rank() * most, length)
    return range(first, min(first + most, length))


def gather_shares(rows: Tensor, length: int) -> Tensor:
    """Put the shares of all ranks together: (n, ...) on each, n as `share_of_rank(length)` says -> (length, ...)."""
    most = -(-length // distributed.world_size())
    padded = rows.new_zeros(most, *rows.shape[1:])  # a gather takes equal shapes
    padded[: len(rows)] = rows
    return distributed.all_gather(padded)[:length]


def loader_options(workers: int, device: torch.device) -> dict[str, Any]:
    """Return keywords of a DataLoader that draws nothing from the default generator and forks none of our threads."""
    return {
        "generator": torch.Generator(),  # a DataLoader draws a number at each start, which a training run would miss
        "multiprocessing_context": "forkserver" if workers else None,
        "pin_memory": device.type == "cuda",
    }


def read_batches(loader: DataLoader) -> Iterator[Any]:
    """Yield the batches of a loader. A broken image is a PretrainError in one line, also from a worker."""
    try:
        yield from loader
    except UserError as error:
        raise from_worker(error) from error
