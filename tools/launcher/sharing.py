"""The stages that run at a time on this machine, and the cores that each of them gets."""

from collections.abc import Sequence

from pretrain.runtime.ranks.cores import usable_cores

from .record import Record
from .stages.stage import Stage


def local_limit(record: Record) -> int:
    """Return the number of stages that may run at a time on this machine: 1 with GPUs, or all would use the same."""
    if any(entry.stage.resources.gpus for entry in record.entries.values()):
        return 1
    return max((entry.stage.parallel or 1 for entry in record.entries.values()), default=1)


def next_stages(ready: Sequence[Stage], live: Sequence[Stage], limit: int) -> list[Stage]:
    """Return the first of the stages that are ready which fit beside those that are live. One alone always fits.

    Args:
        limit: the number of stages that may be live at a time.
    """
    chosen: list[Stage] = []
    free = usable_cores() - sum(_cores(stage, limit) for stage in live)
    for stage in ready:
        free -= _cores(stage, limit)
        if (live or chosen) and (free < 0 or len(live) + len(chosen) >= limit):
            break
        chosen.append(stage)
    return chosen


def threads(stage: Stage, limit: int) -> int | None:
    """Return the threads of each process of a stage: two for one core cost a factor of 3.

    None leaves it to the tool, which is alone on this machine or has a GPU.
    """
    asked = stage.resources
    if asked.gpus or (asked.cpus is None and limit <= asked.tasks):
        return None
    return _cores(stage, limit) // asked.tasks


def _cores(stage: Stage, limit: int) -> int:
    """Return the cores of all processes of a stage: those that it asks for, or its share."""
    tasks = stage.resources.tasks
    return tasks * (stage.resources.cpus or max(1, usable_cores() // max(limit, tasks)))
