"""The parts shared by tools that compute a backbone's features: its file, cores, progress bar, checks of flags."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from rich.progress import MofNCompleteColumn, Progress, TextColumn

from pretrain.data.images.image_set import ImageSet
from pretrain.runtime.errors import PretrainError
from pretrain.runtime.host import user_path
from pretrain.runtime.progress import RateColumn, progress_bar
from pretrain.runtime.ranks.cores import usable_cores

from . import cli

if TYPE_CHECKING:  # they import torch, which takes seconds: --help and a typo come before
    import torch
    from torch import nn

    from transfer.weights import source


def add_backbone_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that name a pretrained ResNet: any file that tools/convert.py reads."""
    add = parser.add_argument
    add("checkpoint", type=user_path, metavar="CHECKPOINT", help="the pretrained file: any that tools/convert.py reads")
    add(
        "--encoder",
        choices=["query", "key"],
        help="of a checkpoint that holds both (default: query)",
    )
    add("--prefix", help="the start of the network's names, where the file holds several networks")


def load_backbone(
    path: Path, encoder: str | None, prefix: str | None, device: torch.device
) -> tuple[source.PretrainedFile, nn.Module]:
    """Read a pretrained ResNet.

    Args:
        encoder, prefix: which of the file's networks; `source.read_pretrained` explains them and raises the errors.

    Returns:
        The network as found in the file, and frozen and in evaluation mode on `device`: images (N, 3, H, W) to
        features (N, C).
    """
    from transfer.weights import source

    found = source.read_pretrained(path, encoder, prefix)
    return found, found.network().requires_grad_(False).to(device)


def report_broken(images: ImageSet, broken: list[int], root: str) -> None:
    """Print a line for each broken image, which is left out. Raises PretrainError where too few are left to compare."""
    for index in broken:
        try:
            images.read(index)
        except PretrainError as error:
            print(f"left out: {error}", file=sys.stderr)
        else:
            print(f"left out: {images.name(index)}: could not be read for a time", file=sys.stderr)
    if len(images) - len(broken) < 2:
        raise PretrainError(f"--root: {root}: {len(broken)} of {len(images)} images cannot be read; 2 whole are needed")


def default_workers() -> int:
    """Return the number of image readers: one core is left for the network, and more than 4 seldom help one GPU."""
    return max(0, min(4, usable_cores() - 1))


def check_flags(given: Iterable[tuple[str, float, float]]) -> None:
    """Raise PretrainError with every (flag, value, smallest value allowed) that is below it or not finite."""
    faults = [
        f"{flag}: {value} must be at least {least}" for flag, value, least in given if not least <= value < math.inf
    ]
    if faults:
        raise PretrainError("; ".join(faults))


def image_progress() -> Progress:
    """Make a bar that counts images a second. The caller fills the field `state`."""
    return progress_bar(
        MofNCompleteColumn(),
        RateColumn("images"),
        TextColumn("{task.description} {task.fields[state]}"),
        shown=cli.is_main(),
    )
