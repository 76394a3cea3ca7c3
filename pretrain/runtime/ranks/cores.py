"""The cores of a process: how many it may use, what its threads and loader workers get, and how its threads wait."""

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a tool that needs no torch starts without it
    import torch

MOST_WORKERS = 8  # loader workers of one GPU
CORES_FOR_A_WORKER = 4  # of a process on a CPU, from which on a worker is taken to pay; measured on two cores alone
WORKERS_OF_A_CORE = 8  # loader workers on a CPU that together take the time of one core

# How often a thread of libgomp looks for work before it sleeps; by itself 300,000 times.
SPINNING, SPINS, SPINS_BUSY = "GOMP_SPINCOUNT", 20_000, 0


def usable_cores(groups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int:
    """Return the number of cores that this process may use, 1 or more: by its affinity and by its CPU quota.

    A container's quota (docker --cpus 2, a limit of Kubernetes) leaves all cores visible, and more threads than it has
    cores wait for each other. A quota of 1.5 cores counts as one.

    Args:
        groups, own: where Linux shows control groups, and those of this process.
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:  # macOS
        cores = os.cpu_count() or 1
    return max(1, min([cores, *(int(quota) for quota in _quotas(groups, own))]))


def loader_workers(device: "torch.device", wanted: int | str, processes: int) -> int:
    """Return the number of loader workers of a process: what is wanted, or for "auto" what its cores make useful.

    A GPU needs the views of several cores. On a CPU a worker needs a tenth of a core, but takes it from a thread for
    which the others then wait: on two cores it is quicker without one (docs/measurements/speed.md).

    Args:
        wanted: a number, or "auto".
        processes: of this run on this machine, which share its cores.
    """
    if isinstance(wanted, int):
        return wanted
    cores = max(1, usable_cores() // processes)
    if device.type == "cpu":
        return 0 if cores < CORES_FOR_A_WORKER else -(-cores // WORKERS_OF_A_CORE)
    return min(MOST_WORKERS, max(1, cores - 1))


def share_cores(device: "torch.device", workers: int, processes: int) -> None:
    """Leave each process on a CPU its share of the cores, and its loader workers what they need.

    Two threads for one core cost a factor of 3. What the user has set stays.

    Args:
        workers: of this process's loader.
        processes: of this run on this machine.
    """
    import torch

    torch.set_num_threads(choose_threads(device, workers, processes)[0])


def choose_threads(
    device: "torch.device",
    workers: int,
    processes: int,
    began_with: int | None = None,
    cores_taken: Callable[[], float] = lambda: 0.0,
) -> tuple[int, str]:
    """Return the number of threads of a process, and a notice where other programs lower it ("" where none does).

    Two threads that share a core with another program are slower than one thread that has it: each waits for the other
    (docs/measurements/speed.md). The number does not change later, because the last bits of a result depend on it.

    Args:
        workers, processes: as `share_cores` has them.
        began_with: the threads of the run that is resumed, which keeps them where this machine has the cores.
        cores_taken: finds what other programs keep busy, as `cores_of_others` does; asked only where it matters.
    """
    import torch

    # torchrun sets one thread where the user sets none; then, too, the cores are to be shared out.
    chosen = os.environ.get("OMP_NUM_THREADS")
    if device.type != "cpu" or not (chosen is None or (chosen == "1" and "TORCHELASTIC_RUN_ID" in os.environ)):
        return torch.get_num_threads(), ""
    cores = usable_cores() // processes
    share = max(1, cores - workers // WORKERS_OF_A_CORE)
    if began_with is not None and began_with <= max(1, cores):
        return began_with, ""
    if share == 1 or processes > 1:  # the processes of a run would take each other for other programs
        return share, ""
    taken, machine = cores_taken(), os.cpu_count() or 1
    left = max(1, min(share, machine - round(taken))) if taken >= 0.5 else share
    if left == share:
        return share, ""
    return left, (
        f"other programs keep {taken:.1f} of {machine} cores busy, so this run has {left} of {share} threads until its "
        f"end; OMP_NUM_THREADS={share} in front of the command gives it all"
    )


def cores_of_others(seconds: float = 0.5, status: Path = Path("/proc/stat")) -> float:
    """Return how many cores other programs keep busy, watched for some seconds; 0 where it is not known.

    Programs of low priority (nice) are left out: they give way.
    """
    began, busy, own = time.monotonic(), _busy_seconds(status), time.process_time()
    time.sleep(seconds)
    others = _busy_seconds(status) - busy - (time.process_time() - own)
    return max(0.0, others / (time.monotonic() - began))


def _busy_seconds(status: Path) -> float:
    """Return the CPU seconds since the machine's start that programs of usual priority and the system took."""
    try:
        user, _nice, system, _idle, _iowait, *interrupts = map(int, status.read_text().split("\n", 1)[0].split()[1:8])
    except (OSError, ValueError):  # not Linux
        return 0.0
    return (user + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def limit_spinning(status: Path = Path("/proc/stat")) -> None:
    """Let OpenMP's threads spin shortly before they sleep, and not at all on a busy machine.

    A thread that spins keeps its core from the one it waits for, where other programs have the rest: a step then takes
    up to six times as long as the published code's. A fifteenth of libgomp's own spinning is as fast on a quiet
    machine, and none is slower there (docs/measurements/speed.md). Results do not depend on it, and what the user has
    set stays. It must be called before torch is imported.

    Args:
        status: where Linux says how many threads want to run.
    """
    if SPINNING in os.environ or "OMP_WAIT_POLICY" in os.environ:
        return
    # Several ranks start at the same time, and would take each other for other programs.
    alone = (os.environ.get("WORLD_SIZE") or os.environ.get("SLURM_STEP_NUM_TASKS") or "1") == "1"
    busy = alone and _running(status) + usable_cores() > (os.cpu_count() or 1)
    os.environ[SPINNING] = str(SPINS_BUSY if busy else SPINS)


def _running(status: Path) -> float:
    """Return how many threads beside this one want to run, the median of five looks; 0 where it is not known."""
    looks = []
    for _ in range(5):
        try:
            lines = status.read_text().splitlines()
        except OSError:
            return 0
        looks += [int(line.split()[1]) - 1 for line in lines if line.startswith("procs_running ")]
        time.sleep(0.01)
    return statistics.median(looks) if looks else 0


def _quotas(groups: Path, own: Path) -> list[float]:
    """Return the CPU quotas over this process, in cores: of its control group (version 2 or 1) and of all above."""
    quotas = []
    for folder in _group_folders(groups, own):
        try:
            if (folder / "cpu.max").exists():
                quota, period = (folder / "cpu.max").read_text().split()
            else:
                quota, period = ((folder / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
            if quota not in ("max", "-1"):
                quotas.append(int(quota) / int(period))
        except (OSError, ValueError, ZeroDivisionError):  # no limit here, or not this version's files
            continue
    return quotas


def _group_folders(groups: Path, own: Path) -> list[Path]:
    """Return the folders of the control groups that may hold a CPU quota, from the process's own up."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return []
    folders: list[Path] = []
    for line in lines:  # ID:CONTROLLERS:/PATH, without controllers in version 2
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        for top in (groups / controllers, groups / "cpu") if controllers else (groups,):
            below = top / path.lstrip("/")
            folders += [below, *(parent for parent in below.parents if parent == top or top in parent.parents)]
    return folders
