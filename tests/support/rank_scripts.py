"""Scripts that processes of one run execute, framed as the tools are; they are forked from one that has torch."""

import multiprocessing
import os
import pathlib
import runpy
import signal
import socket
import sys
import time
from collections.abc import Sequence
from multiprocessing import forkserver

from tests.conftest import ROOT
from tests.support.forked_ranks import PRELOADED

HEAD = """\
import os, sys, time
sys.path[:0] = [{root!r}, {tools!r}]
from common import cli
from pretrain.runtime import distributed
from pretrain.runtime.errors import PretrainError, UserError
rank = int(os.environ.get("RANK") or os.environ["SLURM_PROCID"])
SETTINGS = {{}}

def main():
{body}

cli.run(main)
"""
JOIN = 'distributed.init("cpu", SETTINGS)\n'
FOREVER = "distributed.barrier()\ntime.sleep(1000)"


def write_script(folder: pathlib.Path, body: str) -> pathlib.Path:
    """Write a script that executes `body` as a tool executes its `main`; it knows its `rank`."""
    script = folder / "script.py"
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    script.write_text(HEAD.format(root=str(ROOT), tools=str(ROOT / "tools"), body=lines))
    return script


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Rank:
    """A process that runs a script with variables of its own, as a launcher starts it."""

    def __init__(
        self, script: pathlib.Path, variables: dict[str, str], output: pathlib.Path, words: Sequence[str] = ()
    ) -> None:
        self.output = output
        forkserver.set_forkserver_preload([*PRELOADED, "common.cli"])
        arguments = ([str(script), *words], {**os.environ, **variables}, str(output))
        self._process = multiprocessing.get_context("forkserver").Process(target=_run, args=arguments)
        self._process.start()

    @property
    def pid(self) -> int:
        return self._process.pid or 0

    def wait(self, seconds: float) -> int:
        """Return the exit code; TimeoutError where it takes longer."""
        self._process.join(seconds)
        if self._process.exitcode is None:
            raise TimeoutError(f"still running after {seconds} s: {self.said()}")
        return self._process.exitcode

    def first_line(self, seconds: float) -> str:
        """Wait for the first line that it says, and return it."""
        until = time.monotonic() + seconds
        while "\n" not in self.said() and time.monotonic() < until:
            time.sleep(0.05)
        return self.said().split("\n")[0]

    def said(self) -> str:
        return self.output.read_text() if self.output.exists() else ""

    def is_alive(self) -> bool:
        return self._process.is_alive()

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def end(self) -> None:
        self._process.kill()
        self._process.join()


def _run(words: list[str], variables: dict[str, str], output: str) -> None:
    os.environ.clear()
    os.environ.update(variables)
    file = os.open(output, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    sys.argv = words
    sys.path.insert(0, str(pathlib.Path(words[0]).parent))
    runpy.run_path(words[0], run_name="__main__")
