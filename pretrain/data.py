"""Images in, batches of two views out. Sample i of epoch e depends on (seed, e, i) alone.

What is not plain 8-bit RGB becomes so: the EXIF orientation is applied; of an animation the first frame is taken;
palettes, grayscale and CMYK are converted as Pillow does; transparency is dropped, the colours below it stay; of 16-bit
values the high byte is taken; floating-point values are stretched from their smallest and largest to 0 and 255.
"""

import os
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision import transforms

from pretrain import augment, distributed, randomness
from pretrain.errors import PretrainError

EXTENSIONS = (".jpg", ".jpeg", ".jfif", ".png", ".apng", ".gif", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp")


def find_images(root: str) -> list[str]:
    """Paths of all images in the folder and below, sorted; class folders and flat folders alike.

    An image is a file with one of EXTENSIONS, in any case. Names that begin with a dot are left out; links count.
    Raises PretrainError where the folder is missing, holds no image, or one below it cannot be read.
    """
    if not os.path.isdir(root):
        raise PretrainError(f"data.root: {root}: {'not a folder' if os.path.exists(root) else 'no such folder'}")
    found, others, seen = [], 0, set()
    for folder, below, files in os.walk(root, onerror=_refuse_folder, followlinks=True):
        below[:] = sorted(name for name in below if not name.startswith("."))
        if os.path.realpath(folder) in seen:  # a link that leads back up would be walked for ever
            below.clear()
            continue
        seen.add(os.path.realpath(folder))
        images = [name for name in files if name.lower().endswith(EXTENSIONS) and not name.startswith(".")]
        found += [os.path.join(folder, name) for name in sorted(images)]
        others += len(files) - len(images)
    if not found:
        content = f"only {others} other files" if others else "no files at all"
        raise PretrainError(
            f"data.root: {root}: no images in it or below, {content}; looked for {' '.join(EXTENSIONS)}"
        )
    return found


def _refuse_folder(error: OSError) -> None:
    raise PretrainError(f"data.root: {error.filename}: cannot be read: {error.strerror}")


def read_rgb(path: str) -> Image.Image:
    """The image as 8-bit RGB. Raises PretrainError naming the path where it cannot be read."""
    try:
        with Image.open(path) as image:
            return to_rgb(image)
    except UnidentifiedImageError as error:
        raise PretrainError(f"{path}: not an image of a known format") from error
    except Exception as error:  # Pillow's readers raise whatever the broken bytes lead them to
        raise PretrainError(f"{path}: cannot be read as an image: {error}") from error


def to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB of any Pillow image, upright; the rules are at the top of this module."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16") or image.mode == "I":
        values = np.asarray(image).astype(np.int64).clip(0, 65535)
        image = Image.fromarray((values >> 8).astype(np.uint8))
    elif image.mode == "F":
        values = np.asarray(image)
        span = values.max() - values.min()
        image = Image.fromarray(((values - values.min()) * (255 / span if span else 0)).astype(np.uint8))
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow's way to RGB warns otherwise
    return image.convert("RGB")


class TwoViews(Dataset[tuple[Tensor, Tensor]]):
    """Query and key view, (3, size, size) uint8 each, of the image named by (epoch, index)."""

    def __init__(self, paths: Sequence[str], view: transforms.Compose, seed: int) -> None:
        self.paths, self.view, self.seed = paths, view, seed

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, position: tuple[int, int]) -> tuple[Tensor, Tensor]:
        epoch, index = position
        image = read_rgb(self.paths[index])
        return augment.two_views(image, self.view, randomness.seed_of("views", self.seed, epoch, index))


class EpochSampler(Sampler[list[tuple[int, int]]]):
    """One permutation of all images an epoch, cut into global batches, the tail dropped; rank r takes slice r of each.

    Set `epoch` before iterating. Yields this rank's (epoch, index) of each batch.
    """

    def __init__(self, size: int, batch_size: int, seed: int, rank: int = 0, world_size: int = 1) -> None:
        """`batch_size` is the global one, a multiple of `world_size`."""
        if size < batch_size:
            raise PretrainError(
                f"optim.batch_size: {batch_size} is more than the {size} images found; take fewer or add images"
            )
        self.size, self.batch_size, self.seed = size, batch_size, seed
        self.rank, self.world_size = rank, world_size
        self.epoch = 0

    def __len__(self) -> int:
        return self.size // self.batch_size

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order = torch.randperm(self.size, generator=randomness.generator("order", self.seed, self.epoch))
        batches = order[: len(self) * self.batch_size].view(len(self), self.world_size, -1)
        for batch in batches[:, self.rank].tolist():
            yield [(self.epoch, index) for index in batch]


def make_loader(dataset: TwoViews, sampler: EpochSampler, workers: int, pin_memory: bool = False) -> DataLoader:
    """Batches (query views, key views), (N, 3, size, size) uint8 each, made by `workers` processes (0: this one)."""
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=workers,
        pin_memory=pin_memory,
        persistent_workers=workers > 0,
        # A plain fork of a process with threads (torch's, gloo's) may deadlock, and Python 3.12 warns of it.
        multiprocessing_context="forkserver" if workers else None,
    )


def batches(loader: DataLoader) -> Iterator[tuple[Tensor, Tensor]]:
    """What the loader yields; an image that one rank cannot read is a PretrainError on all."""
    iterator = iter(loader)
    while True:
        fault = None
        try:
            batch = next(iterator)
        except StopIteration:
            return
        except PretrainError as error:
            # A worker's error arrives as one text: where it was caught, its traceback, then what it said.
            fault = PretrainError(str(error).rsplit("PretrainError: ", maxsplit=1)[-1].strip())
        distributed.agree(fault)
        yield batch
