"""The task that submitit calls on every rank of a job: it runs the tool, and requeues the job after a stop.

submitit's pickle holds only this configuration. A run resumes from its own checkpoints: the tool is started by the
same command each time. Our handler takes the place of submitit's, which acts at once and only on rank 0: here every
rank passes the signal on to its tool, the ranks agree on a step to stop at, rank 0 saves, and when the tool has
ended rank 0 requeues the job.

This process must not import torch: it waits beside every rank, and would start seconds later and hold its memory.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import submitit

from ..health.start import UNHEALTHY, check_start
from . import attempts, logs, ranks
from .attempts import Log
from .block_signals import STOPPING
from .ending import Ending
from .retries import Retries

_NOT_RUN = 127  # exit code of shells for a command that is not there
PATIENCE = 60.0  # seconds that a file may be missing on one node that has been written on another
_LOOK = 0.5


@dataclass(frozen=True)
class Task:
    """A tool's command line and where it belongs."""

    command: tuple[str, ...]
    cwd: str
    result: str  # there once the tool has finished
    once: bool  # the tool refuses to write it a second time
    saves: bool  # the tool notes a signal and saves; the others have nothing to save
    attempts: str  # the file that starts and ends are logged in
    tasks: int
    folder: str = ""  # where the tool saves
    gpus: int = 0  # on each node
    retries: int = 0  # attempts more that a job may have after failures
    python: tuple[str, ...] = (sys.executable,)  # that the command begins with
    inputs: tuple[str, ...] = ()  # files that other jobs have made

    def __call__(self) -> None:
        """Run the tool to its end. Returns where it has finished; else the process exits with a code that says so."""
        environment = submitit.JobEnvironment()
        job, rank, cluster = environment.job_id, environment.global_rank, environment.cluster
        ranks.forget_launchers(os.environ, cluster == "slurm")
        os.chdir(self.cwd)
        if cluster == "debug":  # it has no files
            output, printed, submission = Path(os.devnull), 0, Path(os.devnull)
        else:
            paths = environment.paths
            paths.result_pickle.unlink(missing_ok=True)  # of an attempt before: clients would take it for this one's
            output, submission = logs.log_path(paths.folder, job, rank), paths.submission_file
            printed = output.stat().st_size if output.exists() else 0
        log, saves = Log(Path(self.attempts)), Path(self.folder) if self.saves else None
        if rank == 0:
            log.add(event="start", job=job, host=attempts.host(), position=saves and attempts.position(saves))
        await_files(map(Path, self.inputs))
        code, signals = 0, list[str]()
        if not (self.once and Path(self.result).exists()):
            code, signals = self._run() if self._may_start(log, job) else (UNHEALTHY, [])
        if code == 0 and rank == 0 and not Path(self.result).exists():  # on another node the file may be seen late
            code = 1
            print(f"error: the tool ended well, but {self.result} is not there", file=sys.stderr)
        retries = Retries(self.retries, self.tasks, submission)
        Ending(log, job, rank, cluster, code, tuple(signals), saves, retries, (output, printed)).conclude()

    def _may_start(self, log: Log, job: str) -> bool:
        """Return whether the GPUs of the job's nodes can work together; otherwise say which cannot."""
        if not self.gpus or self.tasks == 1:
            return True
        verdict = check_start(
            self.gpus, attempts.host(), submitit.JobEnvironment().hostnames, ranks.variables(), self.python
        )
        for note in verdict.notes:
            print(note, flush=True)
        if verdict.fault:
            log.add(event="unhealthy", job=job, host=attempts.host(), hosts=verdict.hosts, reason=verdict.fault)
            print(f"error: {verdict.fault}", file=sys.stderr)
        return not verdict.fault

    def _run(self) -> tuple[int, list[str]]:
        """Run the tool; return its exit code, and the signals that came meanwhile."""
        came: list[str] = []
        started: list[subprocess.Popen[bytes]] = []
        interrupted = not self.saves and submitit.JobEnvironment().cluster == "local"

        def pass_on(number: int, _: FrameType | None) -> None:
            came.append(signal.Signals(number).name)
            for process in started:
                if not interrupted:
                    process.send_signal(number)
                elif number in (signal.SIGTERM, signal.SIGINT):
                    process.send_signal(signal.SIGINT)  # it has nothing to save, and cleans up

        with contextlib.ExitStack() as stack:
            if interrupted:
                stack.enter_context(_handled(pass_on))
            # Else started with the signals blocked, as this process is: the tool lets them in when it can note them.
            own = ranks.variables() if self.tasks > 1 else {}
            try:
                started.append(subprocess.Popen(self.command, env={**os.environ, **own}))
            except OSError as error:  # no such container command on this node
                print(f"error: {self.command[0]}: cannot be run: {error.strerror}", file=sys.stderr)
                return _NOT_RUN, came
            if not interrupted:
                stack.enter_context(_handled(pass_on))
            elif came:  # before there was a process
                started[0].send_signal(signal.SIGINT)
            code = started[0].wait()
        return code, came


def await_files(paths: Iterable[Path], patience: float = PATIENCE) -> None:
    """Wait until files are there that another node has just written: NFS may deny it for a minute.

    What is not there after `patience` seconds is the tool's to complain of.
    """
    deadline = time.monotonic() + patience
    for path in paths:
        if not path.exists():
            print(f"waiting     up to {patience:.0f} s for {path}, which this machine does not see yet", flush=True)
        while not path.exists() and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                os.listdir(path.parent)  # which makes an NFS client look again
            time.sleep(_LOOK)


@contextlib.contextmanager
def _handled(handler: Any) -> Iterator[None]:
    """Unblock the signals that block_signals.py blocked, for `handler`."""
    before = {number: signal.signal(number, handler) for number in STOPPING}
    mask = signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, old in before.items():
            signal.signal(number, old)
