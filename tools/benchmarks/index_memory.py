"""Measure the memory that an index of images takes, on synthetic entries: the table of docs/guides/data.md."""

import argparse
import itertools
import multiprocessing
import tempfile
from array import array
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from common import cli
from pretrain.data.images.image_set import ImageSet
from pretrain.data.images.path_array import pack
from pretrain.data.images.shards import Samples, concatenate

EXAMPLES = """\
examples:
  python tools/benchmarks/index_memory.py --millions 1
  python tools/benchmarks/index_memory.py --millions 1 10 100   (minutes; 5 GB of memory, 4 GB in TMPDIR)

names: class/class_NUMBER.JPEG for files, as in ImageNet (30 bytes); NUMBER.jpg in shards of 10,000 (13 bytes)
"""

PER_SHARD = 10_000
LOOKS = 10_000  # names read of a mapped index


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--millions", type=int, nargs="+", default=[1, 10], metavar="N", help="entries (default: 1 10)")
    arguments = parser.parse_args()
    table = Table("million names", "of", "index", "peak while built", "own, once mapped", box=None)
    console = Console(highlight=False)
    # A new process for each: memory that one measurement gave back would hide what the next one takes.
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for millions, kind in itertools.product(arguments.millions, ("files", "shards")):
            with console.status(f"{millions} million, {kind}"):
                row = pool.apply(measure, (kind, millions * 1_000_000))
            table.add_row(str(millions), kind, *(f"{size / millions / 1e6:.1f}" for size in row))
    console.print(table)
    console.print("MB a million names: written files; resident memory of the building process; of one that maps them")


def measure(kind: str, entries: int) -> tuple[int, int, int]:
    """Bytes of the written index, of memory at most while it is built, and of a process's own when it is mapped."""
    with tempfile.TemporaryDirectory() as folder:
        before = memory("VmRSS")
        images = built(kind, entries)
        peak = memory("VmHWM") - before
        images.save(Path(folder))
        written = sum(path.stat().st_size for path in Path(folder).glob("*.npy"))
        del images
        before = memory("RssAnon")  # without the pages of mapped files, which all processes share
        mapped = ImageSet.load(Path(folder), folder)
        for index in range(0, entries, max(1, entries // LOOKS)):
            mapped.name(index)
        return written, peak, memory("RssAnon") - before


def built(kind: str, entries: int) -> ImageSet:
    """An index as `open_images` builds it."""
    if kind == "files":
        names = pack(f"n{k // 1300:08d}/n{k // 1300:08d}_{k % 1300:05d}.JPEG" for k in range(entries))
        return ImageSet("", {"text": names.text, "ends": names.ends})
    shards = pack(f"train-{k:06d}.tar" for k in range(entries // PER_SHARD))
    arrays = concatenate(synthetic_shards(entries // PER_SHARD))
    return ImageSet("", {**arrays, "shard_text": shards.text, "shard_ends": shards.ends})


def synthetic_shards(shards: int) -> Iterator[Samples]:
    offsets = array("q", range(0, PER_SHARD * 100_000, 100_000))
    sizes = array("q", itertools.repeat(99_000, PER_SHARD))
    for shard in range(shards):
        yield Samples([f"{shard * PER_SHARD + k:09d}.jpg" for k in range(PER_SHARD)], offsets, sizes)


def memory(key: str) -> int:
    """A value of this process's memory, in bytes, as Linux counts it."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise LookupError(key)


if __name__ == "__main__":
    cli.run(main)
