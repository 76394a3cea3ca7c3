"""Jobs on this machine: submitit's controllers, one process a job, which starts the tasks. Its id is a process id."""

import os
import signal
from collections.abc import Iterable
from pathlib import Path

from launching.slurm import State


def states(jobs: Iterable[tuple[str, Path]]) -> dict[str, State]:
    """RUNNING for those of the jobs, each with the folder of its logs, whose process is there."""
    return {job: State("RUNNING") for job, folder in jobs if _is_controller(job, folder)}


def cancel(jobs: Iterable[tuple[str, Path]]) -> None:
    """Ask jobs to stop; their tools save first."""
    for job, folder in jobs:
        if _is_controller(job, folder):
            os.kill(int(job), signal.SIGTERM)


def _is_controller(job: str, folder: Path) -> bool:
    """Whether the process of that id is the job's: ids are used again."""
    try:
        words = Path(f"/proc/{job}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return b"submitit.local._local" in words and os.fsencode(folder) in words  # a zombie has no words
