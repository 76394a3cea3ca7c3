"""What the tools that look at a checkpoint's features share: backbone, cores, progress bar, checks of flags."""

import math
import os
from collections.abc import Iterable
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text
from torch import nn

from pretrain.checkpoints import moco_file
from pretrain.evaluation import features
from pretrain.runtime.errors import PretrainError

from . import cli

console = Console(stderr=True)


def load(path: Path, device: torch.device) -> tuple[moco_file.QueryEncoder, nn.Module]:
    """The query encoder of a MoCo checkpoint, as it lies in the file and as a frozen network in eval mode."""
    encoder = moco_file.load_query_encoder(path)
    network = features.backbone(encoder.arch, encoder.state_dict).requires_grad_(False)
    return encoder, network.eval().to(device)


def default_workers() -> int:
    """Processes that read images: a core stays for the network, and more than 4 seldom help one GPU."""
    return max(0, min(4, len(os.sched_getaffinity(0)) - 1))


def check_flags(given: Iterable[tuple[str, float, float]]) -> None:
    """Raise PretrainError with every (flag, value, smallest value allowed) that is below it or not finite."""
    faults = [
        f"{flag}: {value} must be at least {least}" for flag, value, least in given if not least <= value < math.inf
    ]
    if faults:
        raise PretrainError("; ".join(faults))


def progress_bar() -> Progress:
    """Images per second and time left; the caller fills the field `state`. Shown by rank 0, on a terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=12),
        MofNCompleteColumn(),
        _Rate(),
        TextColumn("{task.fields[state]}"),
        TimeRemainingColumn(),
        console=console,
        disable=not (cli.is_main() and console.is_terminal),
    )


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.0f} images/s" if task.speed else "", style="progress.data.speed")
