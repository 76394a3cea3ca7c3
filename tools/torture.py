"""Kill pretraining again and again, fill its disk, damage its checkpoints: it must end as if nothing had happened."""

from __future__ import annotations

import argparse
import pathlib
import random
import signal
import sys
from typing import TYPE_CHECKING

from common import cli

# isort: split
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from pretrain.runtime.errors import UserError
from pretrain.runtime.host import user_path
from pretrain.runtime.invocation.parser import Parser
from pretrain.runtime.progress import progress_bar

if TYPE_CHECKING:  # they import torch, which takes seconds: --help and a typo come before
    from fault_injection.campaign import Count, Totals
    from fault_injection.job import Setup

EPILOG = """\
examples:
  python tools/torture.py --output output/torture
  python tools/torture.py --output output/torture --kills 20 --signals 4 --bit-flips 2 --full-disks 1

Each run is a small one of tools/train_moco.py in processes of its own: one process with two loader workers and with
none, and two processes with one each. When it has ended, its weights, queue, optimiser and metrics are compared, bit by
bit, with those of an undisturbed run. The full disk is a tmpfs, which root can mount.
Exit code 0 where nothing failed, 1 where something did.
"""
console = Console()


def main() -> None:
    """Parse the command line, disturb runs, print the counts."""
    arguments = make_parser().parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as a Ctrl-C: the runs end with it
    if arguments.output.exists():
        raise UserError(f"--output: {arguments.output}: already exists; remove it or choose another")
    # Importing these takes seconds: a typo is told before.
    from fault_injection.campaign import LAYOUTS, Totals, can_mount, make_images
    from fault_injection.job import Setup

    seed = arguments.seed if arguments.seed is not None else random.randrange(2**32)
    console.print(f"seed {seed}")
    arguments.output.mkdir(parents=True)
    images = arguments.images or make_images(arguments.output / "images")
    left_out = 0 if can_mount(arguments.output) else arguments.full_disks
    totals = Totals(arguments.kills, arguments.signals, arguments.bit_flips, arguments.full_disks - left_out)
    counts: list[Count] = []
    with progress_bar(MofNCompleteColumn(), TextColumn("{task.description}")) as bar:
        for number, (processes, workers) in enumerate(LAYOUTS):
            if share := totals.share(number, len(LAYOUTS)):
                counts += disturb(Setup(processes, workers, images), arguments.output, seed + number, share, bar)
    show(counts, left_out)
    sys.exit(any(count.failures for count in counts))


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(description=__doc__, epilog=EPILOG)
    parser.add_argument("--output", required=True, type=user_path, help="folder for the runs; must not exist")
    parser.add_argument("--images", type=user_path, help="images to train on; default: made up")
    parser.add_argument("--kills", type=int, default=100, help="SIGKILLs (default 100)")
    parser.add_argument("--signals", type=int, default=40, help="signals that ask to stop (default 40)")
    parser.add_argument("--bit-flips", type=int, default=20, help="damaged checkpoints (default 20)")
    parser.add_argument("--full-disks", type=int, default=10, help="full disks (default 10)")
    parser.add_argument("--seed", type=int, help="of moments and signals (default: another each time, printed)")
    return parser


def disturb(setup: Setup, output: pathlib.Path, seed: int, totals: Totals, bar: Progress) -> list[Count]:
    """Do all disturbances of one setup, and show how far they are."""
    from fault_injection.campaign import Campaign

    name = f"{setup.processes} processes, {setup.workers} workers"
    folder = output / name.replace(",", "").replace(" ", "_")
    folder.mkdir()
    campaign = Campaign(setup, folder, seed)
    counts = []
    for way, times in campaign.disturbances(totals):
        what = f"{name}: {way.__name__.replace('_', ' ')}"
        task = bar.add_task(what, total=times)
        counts.append(campaign.repeat(times, way, lambda task=task: bar.advance(task)))  # type: ignore[misc]
        counts[-1].what = what
        if not console.is_terminal:
            console.print(f"{what}: {times} done, {len(counts[-1].failures)} failed")
    return counts


def show(counts: list[Count], left_out: int) -> None:
    """Print a table of the counts, and every failure below it."""
    table = Table("", "done", "in a save", "runs compared", "failed")
    for count in counts:
        numbers = (count.done, count.within_save, count.compared, len(count.failures))
        table.add_row(count.what, *map(str, numbers))
    console.print(table)
    if left_out:
        console.print(f"left out: {left_out} full disks, a small one cannot be mounted here")
    for count in counts:
        for failure in count.failures:
            console.print(f"FAILED {count.what}: {failure}", soft_wrap=True)


if __name__ == "__main__":
    cli.run(main)
