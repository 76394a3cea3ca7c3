"""tools/benchmarks/shuffle.py: bytes that each rank sends, counted by the kernel, with 2 and 8 processes."""

from typing import Any

import pytest
import torch
import torch.distributed as dist

from benchmarks import shuffle
from pretrain.runtime import spawn
from tests.support.tiers import slow_but

N, SIDE, DIM = 8, 64, 128
SETUP = shuffle.Setup(size=SIDE, batch=N, dim=DIM, steps=1, repeats=2)
IMAGES = N * 3 * SIDE * SIDE  # bytes as uint8
SPOKEN = 1500  # bytes of gloo's own words in an exchange, at most, for each process of the world


def on_ranks() -> dict[str, Any]:
    """What the benchmark finds, and two more operations counted and computed."""
    found = shuffle.on_ranks(SETUP)
    row = torch.zeros(100_000)
    operations = {"all_reduce": lambda: dist.all_reduce(row), "broadcast": lambda: dist.broadcast(row, 0)}
    found["operations"] = {
        name: (shuffle.counted(exchange), shuffle.formula(exchange)) for name, exchange in operations.items()
    }
    return found


@pytest.mark.parametrize("world", slow_but([2], [2, 8]))
def test_a_rank_sends_its_own_images_once_whatever_the_world(world: int) -> None:
    found = spawn.run_on_ranks(on_ranks, world)
    spoken = SPOKEN * world
    order = torch.randperm(world * N, generator=torch.Generator().manual_seed(0))
    moved = (order // N != torch.arange(world * N) // N).sum().item() / (world * N)  # share that changes its rank
    for kind, size in (("uint8", IMAGES), ("fp32", 4 * IMAGES)):
        ours, published = found[f"ours {kind}"], found[f"published {kind}"]
        assert ours["images"]["bytes_sent"] == pytest.approx(moved * size, abs=spoken)
        assert ours["images"]["times_own_images"] < 1 + spoken / size
        assert published["images"]["bytes_sent"] == pytest.approx((world - 1) * size, abs=spoken)
        assert ours["keys"]["bytes_sent"] == pytest.approx((world - 1) * N * DIM * 4, abs=spoken)
        assert published["keys"]["bytes_sent"] == pytest.approx(2 * (world - 1) * N * DIM * 4, abs=spoken)
        assert ours["images"]["formula"] == (world - 1) / world * size  # of an order that is spread evenly
        for what in ("images", "keys"):
            assert published[what]["formula"] == pytest.approx(published[what]["bytes_sent"], abs=spoken)
        assert ours["keys"]["formula"] == pytest.approx(ours["keys"]["bytes_sent"], abs=spoken)
        for one in (ours, published):
            above, below = found["published fp32"]["seconds"]["values"], one["seconds"]["values"]
            assert one["published / this"]["values"] == [a / b for a, b in zip(above, below, strict=True)]
    for counted, formula in found["operations"].values():
        assert formula == pytest.approx(counted, abs=spoken)
