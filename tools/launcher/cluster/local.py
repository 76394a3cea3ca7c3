"""The jobs on this machine: submitit's controllers, one process a job, which starts the tasks; its id is the job's."""

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from .slurm import State

_CONTROLLER = "submitit.local._local"
PROCESSES = Path("/proc")  # Linux shows its processes there; macOS has no such folder
GRACE = 120.0  # seconds that a job may take to save when it is cancelled, as before SLURM's time limit
_LOOK = 0.2  # seconds between two looks at jobs that are stopping


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


def controller(folder: Path) -> list[str]:
    """Return the command line of submitit's controller of a job whose logs are in a folder."""
    return [sys.executable, "-m", _CONTROLLER, os.fspath(folder)]


def job_states(jobs: Iterable[tuple[str, Path]]) -> dict[str, State]:
    """Return RUNNING for each job whose process exists; a job is given with the folder of its logs."""
    wanted = dict(jobs)
    lines = _command_lines(wanted)
    return {job: State("RUNNING") for job, folder in wanted.items() if _is_job(lines.get(job, b""), folder)}


def find_job(folder: Path) -> str | None:
    """Return the job whose logs are in a folder, if it runs."""
    found = [int(process) for process, line in _command_lines().items() if _is_job(line, folder)]
    return str(min(found)) if found else None  # with `setup` there are two, and the shell came first


def cancel(jobs: Iterable[tuple[str, Path]]) -> None:
    """Ask jobs to stop; their tools save first, and `end` ends those that do not."""
    wanted = dict(jobs)
    for job in job_states(wanted.items()):
        children = _command_lines(_children(job))
        controllers = [child for child, line in children.items() if _is_job(line, wanted[job])]  # of a `setup` shell
        preparing = _descendants(job) if _is_shell(job) else [job]  # what `setup` has started would go on without it
        for process in controllers or preparing:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(process), signal.SIGTERM)


def end(jobs: Iterable[tuple[str, Path]], grace: float = GRACE) -> list[str]:
    """Wait until jobs that were asked to stop have ended; kill those that still run after `grace` seconds.

    Returns:
        The ids of the killed ones.
    """
    wanted, deadline = list(jobs), time.monotonic() + grace
    while (live := job_states(wanted)) and time.monotonic() < deadline:
        time.sleep(_LOOK)
    for job in live:
        for process in _descendants(job):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(process), signal.SIGKILL)
    return list(live)


def _descendants(process: str) -> list[str]:
    """Return a process and all below it. It comes first: a killed controller starts no task again."""
    return [process, *(below for child in _children(process) for below in _descendants(child))]


def controllers() -> list[str]:
    """Return the processes that are controllers of jobs on this machine, of any run."""
    mark = os.fsencode(f"-m {_CONTROLLER} ")
    return [process for process, line in _command_lines().items() if mark in line]


def _is_job(line: bytes, folder: Path) -> bool:
    """Return whether a command line is of a job's controller, or of the shell that runs its `setup`.

    The id alone does not tell: the system uses it again for other processes.
    """
    words = controller(folder)[1:]
    return line.endswith((os.fsencode(" " + " ".join(words)), os.fsencode(" " + shlex.join(words))))


def _is_shell(process: str) -> bool:
    """Return whether a process is the shell that runs a job's `setup`, before it becomes the controller."""
    program = _command_lines([process]).get(process, b"").partition(b" ")[0]
    return os.path.basename(program) in (b"sh", b"bash", b"dash")


def _command_lines(processes: Collection[str] | None = None) -> dict[str, bytes]:
    """Return the words of processes with spaces between them, by process id; None: of all. A zombie has no words."""
    if not PROCESSES.is_dir():
        rows = _ask_ps("args", processes)
        return {process: line for process, line in rows if line}
    if processes is None:
        processes = [entry.name for entry in PROCESSES.glob("[0-9]*")]
    lines = {}
    for process in processes:
        with contextlib.suppress(OSError):  # it has ended
            words = (PROCESSES / process / "cmdline").read_bytes().removesuffix(b"\0")
            lines[process] = words.replace(b"\0", b" ")
    return lines


def _children(process: str) -> list[str]:
    if not PROCESSES.is_dir():
        return [child for child, parent in _ask_ps("ppid") if parent == process.encode()]
    try:
        return (PROCESSES / process / "task" / process / "children").read_text().split()
    except OSError:
        return []


def _ask_ps(column: str, processes: Collection[str] | None = None) -> list[tuple[str, bytes]]:
    """Return the ids of processes and a column of `ps`, as bytes; None: of all. It is for systems without /proc."""
    if processes is not None and not processes:
        return []
    which = ["-A"] if processes is None else ["-p", ",".join(processes)]
    command = ["ps", "-ww", *which, "-o", "pid=", "-o", f"{column}="]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    rows = (line.strip().partition(b" ") for line in done.stdout.splitlines())
    return [(process.decode(), text.strip()) for process, _, text in rows]
