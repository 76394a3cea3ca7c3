"""The parts of a step: the share of each in its time, and what its processes send each other.

Both are read from torch's profiler: parts are the ranges of `record_function` that carry a name of PARTS, collectives
the operations of the process group.
"""

import bisect
import math
import os
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile, record_function

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else it complains on machines without a GPU

PARTS = (
    "wait for data",
    "augment",
    "momentum update",
    "buffers broadcast",
    "shuffle",
    "key forward",
    "query forward",
    "logits and loss",
    "backward",
    "check",
    "optimiser",
    "enqueue",
)
ENCODERS = ("key forward", "query forward", "backward")
STEP, REST = "one step", "rest"

ITEM_BYTES = {"unsigned char": 1, "c10::BFloat16": 2, "c10::Half": 2, "int": 4, "float": 4, "long int": 8, "double": 8}
# Bytes that a rank of W sends, on average over the ranks, for each byte that it gives to the operation.
SENT: dict[str, Callable[[int], float]] = {
    "all_to_all": lambda world: (world - 1) / world,  # the rest stays with the rank
    "all_gather": lambda world: world - 1,
    "all_reduce": lambda world: 2 * (world - 1) / world,
    "broadcast": lambda world: (world - 1) / world,  # who sends depends on the library's tree, the sum does not
}


class Collective(NamedTuple):
    """A collective operation between the ranks."""

    operation: str
    payload: int  # bytes that this rank gives to it


def shares(step: Callable[[], object], steps: int, on_gpu: bool = False) -> dict[str, float]:
    """Return the share of each part, and of the rest, in the time of a few steps.

    A part's time is that of its range without the parts within it; on a GPU that of the kernels launched there.
    """
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * on_gpu
    with profile(activities=activities, acc_events=True) as record:
        for _ in range(steps):
            with record_function(STEP):
                step()
                if on_gpu:
                    torch.cuda.synchronize()
    events = list(record.events())
    ranges = [e for e in events if e.name in (*PARTS, STEP) and e.device_type.name == "CPU"]
    ranges.sort(key=lambda e: (e.time_range.start, -e.time_range.end))
    spent = _kernel_times(events, ranges) if on_gpu else _own_times(ranges)
    whole = sum(e.time_range.elapsed_us() for e in ranges if e.name == STEP)
    found = {part: spent[part] / whole for part in PARTS if part in spent}
    return {**found, REST: 1 - sum(found.values())}


def _own_times(ranges: Sequence[FunctionEvent]) -> Counter[str]:
    """Return the microseconds of each name, without those of ranges inside its range."""
    spent: Counter[str] = Counter()
    around: list[FunctionEvent] = []
    for event in ranges:
        while around and around[-1].time_range.end <= event.time_range.start:
            around.pop()
        if around:
            spent[around[-1].name] -= event.time_range.elapsed_us()
        spent[event.name] += event.time_range.elapsed_us()
        around.append(event)
    return spent


def _kernel_times(events: Sequence[FunctionEvent], ranges: Sequence[FunctionEvent]) -> Counter[str]:
    """Return the microseconds of each name's kernels: one belongs to the innermost range that was open at its launch.

    Whatever the thread: in backward, autograd's own launches them while ours waits in the range.
    """
    spent: Counter[str] = Counter()
    starts = [e.time_range.start for e in ranges]
    for event in events:
        if not event.kernels:
            continue
        begun = ranges[: bisect.bisect_right(starts, event.time_range.start)]
        name = next((e.name for e in reversed(begun) if e.time_range.end > event.time_range.start), STEP)
        spent[name] += sum(kernel.duration for kernel in event.kernels)
    return spent


def collectives(work: Callable[[], object]) -> list[Collective]:
    """Return the collective operations, of gloo or NCCL, while this rank does `work`."""
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True, acc_events=True) as record:
        work()
    found = []
    for event in record.events():
        library, _, operation = event.name.partition(":")
        if library in ("gloo", "nccl") and operation != "barrier":
            items = math.prod(event.input_shapes[0])
            found.append(Collective(operation, items * ITEM_BYTES[event.input_dtypes[0]]))
    return found


def bytes_sent(words: Sequence[Collective], world: int) -> float:
    """Return the bytes that a rank of `world` sends to the others, on average over the ranks."""
    return sum(word.payload * SENT[word.operation](world) for word in words)
