"""The exchange of shuffling BN between processes: everything gathered everywhere, as published, against ours."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import torch
from rich.table import Table
from torch import Tensor

from pretrain.models import shuffle_bn
from pretrain.runtime import distributed, spawn

from . import published_step, step_profile
from .arguments import ShuffleSetup as Setup
from .interleave import OnProgress
from .process_counters import tcp_bytes_sent
from .summary import format_summary, summarize, summarize_quotients

PUBLISHED = "published fp32"  # what its script does
Exchange = Callable[[], object]


def measure(setup: Setup, on_progress: OnProgress) -> dict[str, Any]:
    """Return all that `tables` shows, for JSON. Processes have one thread each and communicate through gloo."""
    found = {}
    for done, world in enumerate(setup.worlds):
        on_progress(f"{world} processes", done, len(setup.worlds))
        found[str(world)] = spawn.run_on_ranks(on_ranks, world, setup)
    return {"setup": asdict(setup), "worlds": found}


def on_ranks(setup: Setup) -> dict[str, Any]:
    """Time and count every exchange, on each rank; return rank 0's times, and bytes as the mean over the ranks."""
    torch.set_num_threads(1)
    candidates = exchanges(setup)
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(setup.repeats):
        for name, (images, keys) in candidates.items():
            seconds[name].append(timed(images, keys, setup.steps))
    found: dict[str, Any] = {}
    for name, (images, keys) in candidates.items():
        found[name] = {"seconds": summarize(seconds[name])}
        for what, exchange in (("images", images), ("keys", keys)):
            found[name][what] = {"bytes_sent": counted(exchange), "formula": formula(exchange)}
        pixels = setup.batch * 3 * setup.size**2 * (1 if name.endswith("uint8") else 4)
        found[name]["images"]["times_own_images"] = found[name]["images"]["bytes_sent"] / pixels
        found[name]["published / this"] = summarize_quotients(seconds[PUBLISHED], seconds[name])
    return found


def exchanges(setup: Setup) -> dict[str, tuple[Exchange, Exchange]]:
    """Return, for each candidate, the exchange of images and that of keys. Either is called on all ranks at once."""
    n, world = setup.batch, distributed.world_size()
    floats = torch.zeros(n, 3, setup.size, setup.size)
    keys = torch.zeros(n, setup.dim)
    permutation = torch.randperm(world * n, generator=torch.Generator().manual_seed(0))

    def published_keys() -> None:
        published_step.gather(published_step.unshuffle(keys, permutation))

    def ours_keys() -> None:
        shuffle_bn.unshuffle(keys, permutation)

    def published_images(images: Tensor) -> Exchange:
        return lambda: published_step.shuffle(images)

    def ours_images(images: Tensor) -> Exchange:
        return lambda: shuffle_bn.shuffle(images, permutation)

    kinds: Mapping[str, Tensor] = {"fp32": floats, "uint8": floats.byte()}
    return {
        **{f"published {kind}": (published_images(images), published_keys) for kind, images in kinds.items()},
        **{f"ours {kind}": (ours_images(images), ours_keys) for kind, images in kinds.items()},
    }


def timed(images: Exchange, keys: Exchange, steps: int) -> float:
    """Return the seconds of both exchanges, of the slowest rank."""
    images()
    distributed.barrier()
    begin = time.perf_counter()
    for _ in range(steps):
        images()
        keys()
    distributed.barrier()
    return (time.perf_counter() - begin) / steps


def counted(exchange: Exchange) -> float:
    """Return the bytes that a rank sends, on average over the ranks, as their kernel has counted them."""
    distributed.barrier()
    before = tcp_bytes_sent()
    exchange()
    sent = torch.tensor([tcp_bytes_sent() - before], dtype=torch.float64)
    return distributed.mean(sent).item()


def formula(exchange: Exchange) -> float:
    """Return the same, computed from the payload of each operation and what that is known to send."""
    return step_profile.bytes_sent(step_profile.collectives(exchange), distributed.world_size())


def tables(found: dict[str, Any]) -> list[str | Table]:
    """Return what was measured, for a terminal."""
    setup = found["setup"]
    table = Table("processes", "", "ms", "published / this", "MB of images", "expected", "x N images", "MB of keys")
    for world, candidates in found["worlds"].items():
        for name, one in candidates.items():
            table.add_row(
                world,
                name,
                format_summary(one["seconds"], 1, 1000),
                format_summary(one["published / this"]),
                f"{one['images']['bytes_sent'] / 1e6:.2f}",
                f"{one['images']['formula'] / 1e6:.2f}",
                f"{one['images']['times_own_images']:.2f}",
                f"{one['keys']['bytes_sent'] / 1e6:.3f}",
                end_section=name == list(candidates)[-1],
            )
    return [f"shuffling BN, {setup['batch']} images of {setup['size']} px a process, gloo", table]
