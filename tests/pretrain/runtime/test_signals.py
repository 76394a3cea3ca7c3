"""Requests to stop: noted here, kept from the processes that loader workers come from."""

import multiprocessing
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from pretrain.runtime import signals

ROOT = pathlib.Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("number", signals.STOPPING)
def test_a_signal_is_noted_and_its_handler_put_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with signals.StopRequest() as stop:
        assert stop.name is None
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.name == number.name  # the first one
    assert signal.getsignal(number) == before


STARTED_BLOCKED = """
import os, signal
from pretrain.runtime import signals
signal.pthread_sigmask(signal.SIG_BLOCK, signals.STOPPING)
os.kill(os.getpid(), signal.SIGUSR2)
with signals.StopRequest() as stop:
    print(stop.name)
print(set(signals.STOPPING) <= signal.pthread_sigmask(signal.SIG_BLOCK, []))
"""


def test_signals_that_came_while_blocked_are_noted() -> None:
    """In a process of one thread: others, which do not block it, would get the signal, and all would end."""
    command = [sys.executable, "-c", STARTED_BLOCKED]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["SIGUSR2", "True"], done.stderr


def blocked() -> list[int]:
    return sorted(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, [])))


def report_blocked(queue: "multiprocessing.Queue[list[int]]") -> None:
    queue.put(blocked())


def main() -> None:
    """In a process that has started no other yet: multiprocessing's own start must not undo the mask."""
    signals.shield_workers()
    context = multiprocessing.get_context("forkserver")
    queue = context.Queue()
    worker = context.Process(target=report_blocked, args=(queue,))
    worker.start()
    print(blocked(), queue.get())
    worker.join()


def test_workers_of_a_shielded_process_never_get_one() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.pretrain.runtime.test_signals"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == f"[] {sorted(map(int, signals.STOPPING))}", done.stderr


if __name__ == "__main__":
    main()
