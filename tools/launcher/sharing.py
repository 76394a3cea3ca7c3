"""The stages that run at a time on this machine: as many as its GPUs and cores hold, and which of these each gets."""

import contextlib
import functools
import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence

from pretrain.runtime.host import private_folder
from pretrain.runtime.ranks.cores import usable_cores

from .cluster import local
from .cluster.lock import locked
from .record import Record
from .stages.stage import Stage

_NAME = "CUDA_VISIBLE_DEVICES"
_LISTED = re.compile(r"GPU (\d+): .*\(UUID: ([^)]+)\)")
_PATIENCE = 60  # seconds for an answer of nvidia-smi


def local_limit(record: Record) -> int:
    """Return the number of stages that may run at a time on this machine: with GPUs as many as it has, if not fewer.

    Stages without GPUs run one after another unless `parallel` says otherwise.
    """
    stages = [entry.stage for entry in record.entries.values()]
    gpus = len(visible_gpus()) if any(stage.resources.gpus for stage in stages) else 0
    return max((stage.parallel or (gpus if stage.resources.gpus else 1) or 1 for stage in stages), default=1)


def next_stages(ready: Sequence[Stage], live: Sequence[Stage], limit: int) -> list[Stage]:
    """Return the first of the stages that are ready which fit beside those that are live. One alone always fits.

    No two share a GPU or a core, and of an array no more run at a time than its `parallel` says.

    Args:
        limit: the number of stages that may be live at a time.
    """
    chosen: list[Stage] = []
    cores = usable_cores() - sum(_cores(stage, limit) for stage in live)
    gpus = len(free_gpus()) if any(stage.resources.gpus for stage in ready) else 0
    for stage in ready:
        beside = [*live, *chosen]
        of_array = sum(other.array == stage.array for other in beside) if stage.array else 0
        if stage.parallel and of_array >= stage.parallel:
            continue
        cores -= _cores(stage, limit)
        gpus -= stage.resources.gpus or 0
        if beside and (cores < 0 or (stage.resources.gpus and gpus < 0) or len(beside) >= limit):
            break
        chosen.append(stage)
    return chosen


def threads(stage: Stage, limit: int) -> int | None:
    """Return the threads of each process of a stage: two for one core cost a factor of 3.

    None leaves it to the tool, which is alone on this machine.
    """
    asked = stage.resources
    if limit <= asked.tasks and (asked.gpus or asked.cpus is None):
        return None
    return _cores(stage, limit) // asked.tasks


def _cores(stage: Stage, limit: int) -> int:
    """Return the cores of all processes of a stage: those that it asks for, or its share."""
    tasks = stage.resources.tasks
    return tasks * (stage.resources.cpus or max(1, usable_cores() // max(limit, tasks)))


def visible_gpus(environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """Return the GPUs that this shell may use, as CUDA_VISIBLE_DEVICES names them: by number or by UUID.

    As CUDA does, those behind one that is not there are left out.
    """
    there = _installed()
    if there is None:  # no nvidia-smi
        there = tuple((str(number), "") for number in range(_count_by_torch()))
        if _NAME in environment and there:  # torch has counted those that are named
            return _named(environment)[: len(there)]
    if _NAME not in environment:
        return tuple(number for number, _ in there)
    found = []
    for name in _named(environment):
        known = any(name == number or (name.startswith("GPU-") and uuid.startswith(name)) for number, uuid in there)
        if not known and not name.startswith("MIG-"):
            break
        found.append(name)
    return tuple(found)


def free_gpus() -> tuple[str, ...]:
    """Return the GPUs that this shell may use and that no live job of a launcher on this machine has.

    A job's own environment tells, so that the jobs of other shells and of other runs count, too.
    """
    used = {name for environment in _environments_of_jobs() for name in _named(environment)}
    return tuple(name for name in visible_gpus() if name not in used)


@contextlib.contextmanager
def chosen_gpus(number: int) -> Iterator[tuple[str, ...]]:
    """Choose so many GPUs for a job: free ones, and where they do not suffice the others that are visible, too.

    The block starts the job. Until it ends, no other command of this user on this machine chooses.
    """
    if not number:
        yield ()
        return
    with locked(private_folder() / "gpus.lock"):
        free = free_gpus()
        more = visible_gpus() if len(free) < number else ()
        yield tuple(dict.fromkeys((*free, *more)))[:number]


def _named(environment: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(name.strip() for name in environment.get(_NAME, "").split(",") if name.strip())


@functools.cache
def _installed() -> tuple[tuple[str, str], ...] | None:
    """Return the number and the UUID of each GPU of the machine; None where nvidia-smi does not tell."""
    try:
        done = subprocess.run(("nvidia-smi", "-L"), capture_output=True, text=True, check=False, timeout=_PATIENCE)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return None if done.returncode else tuple(_LISTED.findall(done.stdout))


@functools.cache
def _count_by_torch() -> int:
    import torch  # here, for it takes seconds

    return torch.cuda.device_count()


def _environments_of_jobs() -> list[dict[str, str]]:
    found = []
    for process in local.controllers():
        with contextlib.suppress(OSError):  # it has ended, or is somebody else's
            words = (local.PROCESSES / process / "environ").read_bytes().decode(errors="replace").split("\0")
            found.append(dict(word.split("=", 1) for word in words if "=" in word))
    return found
