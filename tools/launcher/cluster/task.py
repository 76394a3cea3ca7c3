"""The task that submitit calls on every rank of a job: it runs the tool, and requeues the job after a stop.

submitit's pickle holds only this configuration. A run resumes from its own checkpoints: the tool is started by the
same command each time. Our handler takes the place of submitit's, which acts at once and only on rank 0: here every
rank passes the signal on to its tool, the ranks agree on a step to stop at, rank 0 saves, and when the tool has
ended rank 0 requeues the job.

This process must not import torch: it waits beside every rank, and would start seconds later and hold its memory.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from types import FrameType
from typing import Any

import submitit
import submitit.helpers

from pretrain.runtime.errors import TRY_AGAIN
from pretrain.runtime.ranks.environment import port_for

from . import slurm
from .block_signals import STOPPING

_AGAIN_HERE = 144  # what submitit's local executor takes for "start the tasks once more"
_LAUNCHERS = ("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")


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

    def __call__(self) -> None:
        """Run the tool to its end. Returns where it has finished; else the process exits with a code that says so."""
        environment = submitit.JobEnvironment()
        main = environment.global_rank == 0
        os.chdir(self.cwd)
        if environment.cluster != "debug":  # of an attempt before: clients would take it for this one's
            environment.paths.result_pickle.unlink(missing_ok=True)
        if main:
            self._log({"event": "start", "job": environment.job_id, "host": socket.gethostname()})
        code, signals = (0, []) if self.once and Path(self.result).exists() else self._run()
        if code == 0 and main and not Path(self.result).exists():  # on another node the file may be seen late
            code = 1
            print(f"error: {self.command[1]} ended well, but {self.result} is not there", file=sys.stderr)
        end = {"event": "end", "job": environment.job_id, "rank": environment.global_rank, "code": code}
        if code == 0:
            if main:
                self._log({**end, "outcome": "finished"})
        elif code == TRY_AGAIN:
            if not main:
                sys.exit(0)  # another code would end rank 0 before it has requeued the job
            self._log({**end, "outcome": "stopped", "signal": signals[0] if signals else None})
            self._again(environment, "SIGTERM" in signals)
        else:
            self._log({**end, "outcome": "failed"})
            sys.exit(code if code > 0 else 128 - code)

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
            started.append(subprocess.Popen(self.command, env={**os.environ, **(_rank() if self.tasks > 1 else {})}))
            if not interrupted:
                stack.enter_context(_handled(pass_on))
            elif came:  # before there was a process
                started[0].send_signal(signal.SIGINT)
            code = started[0].wait()
        return code, came

    def _again(self, environment: Any, cancelled: bool) -> None:
        """Start the job once more, unless somebody is ending it. Does not return."""
        if environment.cluster == "slurm":
            fault = slurm.requeue(environment.job_id)
            if fault:
                self._log({"event": "not requeued", "job": environment.job_id, "reason": fault})
                print(f"saved, but not requeued: {fault}", file=sys.stderr)
        elif environment.cluster == "local" and not cancelled:  # by SIGTERM
            sys.exit(_AGAIN_HERE)
        sys.exit(TRY_AGAIN)

    def _log(self, line: dict[str, Any]) -> None:
        path = Path(self.attempts)
        path.parent.mkdir(parents=True, exist_ok=True)
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        with open(path, "a") as file:
            file.write(json.dumps({"time": now, **line}) + "\n")


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


def _rank() -> dict[str, str]:
    """Return torchrun's variables for this task.

    CUDA_VISIBLE_DEVICES stays as it is: the tools choose by local rank in it.
    """
    for name in _LAUNCHERS:  # of the shell that submitted the job; the helper would take its port
        os.environ.pop(name, None)
    there = submitit.helpers.TorchDistributedEnvironment()
    local = submitit.JobEnvironment().cluster == "local"  # a machine need not be able to resolve its own name
    return {
        "MASTER_ADDR": "127.0.0.1" if local else there.master_addr,
        "MASTER_PORT": str(port_for(there.master_port)),
        "RANK": str(there.rank),
        "WORLD_SIZE": str(there.world_size),
        "LOCAL_RANK": str(there.local_rank),
        "LOCAL_WORLD_SIZE": str(there.local_world_size),
    }
