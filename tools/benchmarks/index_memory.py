"""The memory that an index of images takes, on synthetic entries: the table of docs/guides/images.md."""

import itertools
import multiprocessing
import tempfile
from array import array
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table

from pretrain.data.images.image_set import ImageSet
from pretrain.data.images.path_array import pack_paths
from pretrain.data.images.shards import Samples, concatenate

from .arguments import IndexSetup as Setup
from .interleave import OnProgress
from .process_counters import memory_bytes

PER_SHARD = 10_000
LOOKUPS = 10_000  # names read of a mapped index
KINDS = ("files", "shards")  # class/class_NUMBER.JPEG as in ImageNet, 30 bytes; NUMBER.jpg in shards, 13 bytes


def measure(setup: Setup, on_progress: OnProgress) -> dict[str, Any]:
    """Return all that `tables` shows, for JSON: bytes a number of millions and kind."""
    found: dict[str, Any] = {str(millions): {} for millions in setup.millions}
    # A new process for each: memory that one measurement gave back would hide what the next one takes.
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for done, (millions, kind) in enumerate(itertools.product(setup.millions, KINDS)):
            on_progress(f"{millions} million, {kind}", done, len(KINDS) * len(setup.millions))
            written, peak, own = pool.apply(measure_index, (kind, millions * 1_000_000))
            found[str(millions)][kind] = {"written": written, "peak": peak, "own": own}
    return {"setup": asdict(setup), "millions": found}


def measure_index(kind: str, entries: int) -> tuple[int, int, int]:
    """Build an index, write it and map it.

    Returns:
        Bytes of the written files, of memory at most while it is built, and of a process's own once it is mapped.
    """
    with tempfile.TemporaryDirectory() as folder:
        before = memory_bytes("VmRSS")
        images = build_index(kind, entries)
        peak = memory_bytes("VmHWM") - before
        images.save(Path(folder))
        written = sum(path.stat().st_size for path in Path(folder).glob("*.npy"))
        del images
        before = memory_bytes("RssAnon")  # without the pages of mapped files, which all processes share
        mapped = ImageSet.load(Path(folder), folder)
        for index in range(0, entries, max(1, entries // LOOKUPS)):
            mapped.name(index)
        return written, peak, memory_bytes("RssAnon") - before


def build_index(kind: str, entries: int) -> ImageSet:
    """Return an index of synthetic names, as `open_images` builds it."""
    if kind == "files":
        names = pack_paths(f"n{k // 1300:08d}/n{k // 1300:08d}_{k % 1300:05d}.JPEG" for k in range(entries))
        return ImageSet("", {"text": names.text, "ends": names.ends})
    shards = pack_paths(f"train-{k:06d}.tar" for k in range(entries // PER_SHARD))
    arrays = concatenate(_synthetic_shards(entries // PER_SHARD))
    return ImageSet("", {**arrays, "shard_text": shards.text, "shard_ends": shards.ends})


def _synthetic_shards(shards: int) -> Iterator[Samples]:
    offsets = array("q", range(0, PER_SHARD * 100_000, 100_000))
    sizes = array("q", itertools.repeat(99_000, PER_SHARD))
    for shard in range(shards):
        yield Samples([f"{shard * PER_SHARD + k:09d}.jpg" for k in range(PER_SHARD)], offsets, sizes)


def tables(found: dict[str, Any]) -> list[str | Table]:
    """Return what was measured, for a terminal."""
    table = Table("million names", "of", "index", "peak while built", "own, once mapped")
    for millions, kinds in found["millions"].items():
        for kind, sizes in kinds.items():
            table.add_row(millions, kind, *(f"{size / int(millions) / 1e6:.1f}" for size in sizes.values()))
    legend = "MB a million names: written files; resident memory of the building process; of one that maps them"
    return [table, legend]
