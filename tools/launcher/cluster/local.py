"""The jobs on this machine: submitit's controllers, one process a job, which starts the tasks; its id is the job's."""

import contextlib
import os
import shlex
import signal
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from .slurm import State


@contextlib.contextmanager
def detached(output: Path) -> Iterator[None]:
    """Let what the block starts outlive this terminal: Ctrl-C and hang-up do not reach it, it holds no pipe open.

    Its output goes to the file `output`. The tasks have a session of their own (block_signals.py).
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    handlers = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGHUP)}
    kept = [os.dup(number) for number in range(3)]
    try:
        with open(os.devnull, "rb") as nothing, open(output, "ab") as file:
            for number, there in enumerate((nothing, file, file)):
                os.dup2(there.fileno(), number)
        yield
    finally:
        for number, copy in enumerate(kept):
            os.dup2(copy, number)
            os.close(copy)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def job_states(jobs: Iterable[tuple[str, Path]]) -> dict[str, State]:
    """Return RUNNING for each job whose process exists; a job is given with the folder of its logs."""
    return {job: State("RUNNING") for job, folder in jobs if _is_job(job, folder)}


def find_job(folder: Path) -> str | None:
    """Return the job whose logs are in a folder, if it runs."""
    found = [int(entry.name) for entry in Path("/proc").glob("[0-9]*") if _is_job(entry.name, folder)]
    return str(min(found)) if found else None  # with `setup` there are two, and the shell came first


def cancel(jobs: Iterable[tuple[str, Path]]) -> None:
    """Ask jobs to stop; their tools save first."""
    for job, folder in jobs:
        if not _is_job(job, folder):
            continue
        controllers = [child for child in _children(job) if _is_job(child, folder)]  # of a shell with `setup`
        for process in controllers or [job]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(process), signal.SIGTERM)


def _is_job(process: str, folder: Path) -> bool:
    """Return whether a process is a job's controller, or the shell that runs its `setup`: ids are used again."""
    try:
        words = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")[:-1]
    except OSError:
        return False
    controller = ["-m", "submitit.local._local", os.fspath(folder)]
    here = words[-3:] == [os.fsencode(word) for word in controller]  # a zombie has no words
    return here or (bool(words) and words[-1].endswith(os.fsencode(shlex.join(controller))))


def _children(process: str) -> list[str]:
    try:
        return Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except OSError:
        return []
