"""tools/benchmarks/step_profile.py: the time of a part is its own."""

import time
from types import SimpleNamespace
from typing import Any

import pytest
from torch.profiler import record_function

from benchmarks import step_profile


def nested() -> None:
    with record_function("shuffle"):
        with record_function("key forward"):
            time.sleep(0.05)
        with record_function("query forward"):
            time.sleep(0.05)
    with record_function("no part of a step"):
        time.sleep(0.05)


def test_a_part_within_a_part_is_counted_once() -> None:
    found = step_profile.shares(nested, 2)
    assert set(found) == {"shuffle", "key forward", "query forward", "rest"}
    assert sum(found.values()) == pytest.approx(1)
    assert found["shuffle"] < 0.5 * min(found[name] for name in ("key forward", "query forward", "rest"))


def event(name: str, start: float, end: float, kernels: tuple[float, ...] = ()) -> Any:
    """What the profiler of a GPU gives; there is none here."""
    time_range = SimpleNamespace(start=start, end=end)
    return SimpleNamespace(
        name=name, time_range=time_range, kernels=[SimpleNamespace(duration=duration) for duration in kernels]
    )


def test_a_kernel_belongs_to_the_innermost_part_that_launched_it() -> None:
    ranges = [
        event("one step", 0, 100),
        event("buffers broadcast", 10, 60),
        event("key forward", 20, 30),
        event("backward", 70, 90),
    ]
    operations = [
        event("aten::add", 5, 6, (1,)),  # of the step, in no part
        event("aten::mul", 12, 13, (2,)),
        event("aten::conv2d", 25, 40, (3, 4)),  # begun in the part
        event("aten::cat", 40, 41, (8,)),
        event("autograd::engine", 75, 76, (16,)),  # another thread's, while ours waits
        event("aten::view", 80, 81),
    ]
    found = step_profile._kernel_times(operations, ranges)
    assert found == {"one step": 1, "buffers broadcast": 10, "key forward": 7, "backward": 16}
