"""Find broken and silently damaged images before a run does."""

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.utils.data import DataLoader

from common import cli
from pretrain.config.schema import Data
from pretrain.data.images.image_set import ImageSet, open_images
from pretrain.data.images.integrity import Checked, Fault
from pretrain.runtime.errors import PretrainError
from pretrain.runtime.files import whole_file

FOUND = 1  # exit code where there are faults
CHUNK = 32  # images a process checks before it answers

EXAMPLES = """\
examples:
  python tools/check_images.py IMAGES
  python tools/check_images.py IMAGES --workers 16 --output faults.txt --good good.txt
  python tools/check_images.py "shards/train-{000..127}.tar" --output faults.txt
  (then train on what is whole: data.root good.txt)

Two kinds of fault are told apart: what cannot be read, which a run replaces and counts, and what decodes with damage,
which a run does not notice (a JPEG with a zeroed block, a PNG with a wrong checksum).

exit code: 0 all images are whole, 1 some are not, 2 ROOT could not be read
"""


def main() -> None:
    arguments = parse()
    for path in filter(None, (arguments.output, arguments.good)):
        if path.exists():
            raise PretrainError(f"{path} exists already and is not overwritten: name another file")
        if not path.parent.is_dir():
            raise PretrainError(f"{path}: there is no folder {path.parent}")
    images = open_images(arguments.root, "ROOT")
    if arguments.good and images.shards is not None:
        raise PretrainError(f"--good: a list holds paths of images, not what is inside the shards of {arguments.root}")
    faults = {}
    for index, fault in watch(images, arguments.workers):
        if fault:
            faults[index] = fault
            print(f"{fault.name}: {fault.reason}", flush=True)
    print(summary(list(faults.values()), len(images)))
    if arguments.output:
        write(arguments.output, (f"{fault.name}: {fault.reason}" for fault in faults.values()))
    if arguments.good:
        write(arguments.good, good_paths(images, set(faults)))
    if faults:
        sys.exit(FOUND)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", metavar="ROOT", help="images, as data.root takes them: a folder, a list, shards, a URL")
    cores = len(os.sched_getaffinity(0))
    parser.add_argument(
        "--workers", type=int, default=cores, metavar="N", help="processes that check; 0: this one (default: all cores)"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="also write the list of faults; never overwritten")
    parser.add_argument(
        "--good", type=Path, metavar="LIST.txt", help="write the paths of the whole images, for data.root"
    )
    arguments = parser.parse_args()
    if arguments.workers < 0:
        parser.error("--workers: must be 0 or more")
    if arguments.good and arguments.good.suffix != ".txt":
        parser.error("--good: must end with .txt: that is how data.root knows a list")
    return arguments


def watch(images: ImageSet, workers: int) -> Iterator[tuple[int, Fault | None]]:
    """Index and fault of each image, in order, under a progress bar with the rate and the time left."""
    columns = (
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    shared = sys.stdout.isatty()  # the list must stay above the bar there, and go to its file elsewhere
    loader = DataLoader(
        Checked(images),
        batch_size=CHUNK,
        collate_fn=list,
        num_workers=workers,
        multiprocessing_context="forkserver" if workers else None,
    )
    index = 0
    with Progress(*columns, console=console, disable=not console.is_terminal, redirect_stdout=shared) as bar:
        task = bar.add_task("", total=len(images), rate="")
        for chunk in loader:
            for fault in chunk:
                yield index, fault
                index += 1
            speed = bar.tasks[task].speed
            bar.update(task, completed=index, rate=f"{speed:.0f} images/s" if speed else "")


def summary(faults: list[Fault], images: int) -> str:
    """What was found, and what a run would make of it."""
    limit = Data().max_broken
    damaged = sum(fault.readable for fault in faults)
    unreadable = len(faults) - damaged
    verdict = "more" if unreadable > limit * images else "not more"
    return (
        f"{images} images: {images - len(faults)} whole, {unreadable} unreadable ({unreadable / images:.3%}, {verdict} "
        f"than the {limit:.3%} of data.max_broken), {damaged} damaged but readable"
    )


def good_paths(images: ImageSet, faulty: set[int]) -> Iterator[str]:
    """Absolute paths (or URLs) of the images without a fault."""
    for index in range(len(images)):
        if index not in faulty:
            name = images.name(index)
            path = name if "://" in name else os.path.abspath(name)
            if "\n" in path or "\r" in path:
                raise PretrainError(f"--good: {path!r}: a name with a line break cannot stand in a list; rename it")
            yield path


def write(path: Path, lines: Iterator[str]) -> None:
    """A text file of the lines; names that are not UTF-8 keep their bytes."""
    with whole_file(path) as file:
        for line in lines:
            file.write(os.fsencode(line + "\n"))


if __name__ == "__main__":
    cli.run(main)
