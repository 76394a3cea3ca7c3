"""A check of every image of a set, one by one, the summary, and the list of the images without a fault."""

import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from rich.progress import MofNCompleteColumn
from torch.utils.data import DataLoader

from pretrain.config.schema import Data
from pretrain.data.images.image_set import ImageSet
from pretrain.data.images.integrity import Check, Checked, Fault
from pretrain.runtime.errors import PretrainError, listed
from pretrain.runtime.files import whole_file
from pretrain.runtime.progress import RateColumn, progress_bar

_CHUNK = 32  # images that a process checks before it answers


def check_images(images: ImageSet, workers: int) -> Iterator[tuple[int, Check]]:
    """Yield the index and the check of each image, in order, with a progress bar.

    Args:
        workers: processes that read images; 0: this one.
    """
    shared = sys.stdout.isatty()  # the list must stay above the bar there, and go to its file elsewhere
    loader = DataLoader(
        Checked(images),
        batch_size=_CHUNK,
        collate_fn=list,
        num_workers=workers,
        multiprocessing_context="forkserver" if workers else None,
    )
    index = 0
    with progress_bar(MofNCompleteColumn(), RateColumn("images"), redirect_stdout=shared) as bar:
        task = bar.add_task("", total=len(images))
        for chunk in loader:
            for check in chunk:
                yield index, check
                index += 1
            bar.update(task, completed=index)


def summarise(faults: list[Fault], images: int) -> str:
    """Return one line: how many images are whole, and whether a run would accept the others."""
    limit = Data().max_broken
    damaged = sum(fault.readable for fault in faults)
    unreadable = len(faults) - damaged
    verdict = "more" if unreadable > limit * images else "not more"
    return (
        f"{images} images: {images - len(faults)} whole, {unreadable} unreadable ({unreadable / images:.3%}, {verdict} "
        f"than the {limit:.3%} of data.max_broken), {damaged} damaged but readable"
    )


def refuse_unlistable(images: ImageSet) -> None:
    """Raise PretrainError, naming them, where a list cannot hold the names of all images."""
    broken = [index for index in range(len(images)) if {"\n", "\r"} & set(images.path(index))]
    if broken:
        raise PretrainError(
            f"--good: a list cannot hold a name with a line break, and {len(broken)} images have such names: "
            f"{listed(map(images.name, broken))}; rename them"
        )


def good_paths(images: ImageSet, faulty: set[int]) -> Iterator[str]:
    """Yield the absolute paths (or URLs) of the images without a fault."""
    for index in range(len(images)):
        if index not in faulty:
            path = images.path(index)
            yield path if "://" in path else os.path.abspath(path)


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write a text file of lines; names that are not UTF-8 keep their bytes."""
    with whole_file(path) as file:
        for line in lines:
            file.write(os.fsencode(line + "\n"))
