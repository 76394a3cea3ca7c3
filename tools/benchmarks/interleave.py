"""The interleaved runs of several candidates, A B A B: each has its own processes, and one works while others sleep.

Nothing that one leaves behind (memory, threads, a process group) affects the numbers of another, and a disturbance of
the machine affects all of them.
"""

import base64
import contextlib
import itertools
import json
import multiprocessing
import pickle
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple, Protocol

import torch.distributed as dist

from pretrain.runtime import distributed, spawn

from .arguments import BenchmarkError

POLL = 0.01  # seconds between two looks for an answer

Numbers = dict[str, Any]  # what JSON holds
OnProgress = Callable[[str, int, int], None]  # the piece of work that begins, the number done, and that of all


class Runner(Protocol):
    """A candidate, in each of its processes."""

    def measure(self) -> Numbers:
        """Do the work once; return how long it took."""

    def report(self) -> Numbers:
        """Return everything else, after the last round."""


class Candidate(NamedTuple):
    """A function of a module that makes a candidate's runner, called in each of its processes."""

    make: Callable[..., Runner]
    arguments: tuple[Any, ...]


class Outcome(NamedTuple):
    """The numbers of a candidate's rank 0."""

    rounds: list[Numbers]
    report: Numbers


def run_interleaved(
    candidates: Mapping[str, Candidate],
    rounds: int,
    processes: int = 1,
    device: str = "cpu",
    on_progress: OnProgress = lambda piece, done, of: None,
) -> dict[str, Outcome]:
    """Make the candidates one after the other, measure each once in every round, then gather their reports.

    Args:
        rounds: number of measurements of each candidate.
        processes: number of processes of each candidate, on `device`, in a process group of their own.
        on_progress: called before each piece of work.

    Returns:
        The outcome of each candidate.

    Raises:
        BenchmarkError: a process died. What a candidate raised is raised again.
    """
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=distributed.TIMEOUT)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torchvision"])  # imported once for all candidates
    leaders = {
        name: context.Process(target=_lead, args=(name, candidate, rounds, store.port, processes, device))
        for name, candidate in candidates.items()
    }
    answers: dict[str, list[Numbers]] = {name: [] for name in candidates}
    pieces = ["start", *(f"round {number} of {rounds}" for number in range(1, rounds + 1)), "report"]
    try:
        for leader in leaders.values():
            leader.start()
        for done, (piece, name) in enumerate(itertools.product(range(len(pieces)), candidates)):
            on_progress(f"{name}: {pieces[piece]}", done, len(pieces) * len(candidates))
            store.set(f"{name}/{piece}/begin", "")
            answers[name].append(_answer(store, name, piece, leaders[name]))
        for leader in leaders.values():
            leader.join()
    finally:
        for leader in leaders.values():
            if leader.is_alive():  # it waits for its round, but another has failed
                leader.terminate()
                leader.join()
    return {name: Outcome(numbers[1:-1], numbers[-1]) for name, numbers in answers.items()}


def _answer(store: dist.TCPStore, name: str, piece: int, leader: BaseProcess) -> Numbers:
    while not store.check([f"{name}/{piece}/end"]):
        alive = leader.is_alive()  # asked first: a candidate that fails says so before it dies
        if store.check([f"{name}/failure"]):
            raise pickle.loads(base64.b64decode(store.get(f"{name}/failure")))  # noqa: S301 (our own process wrote it)
        if not alive:
            raise BenchmarkError(f"{name}: a process died; was there too little memory?")
        time.sleep(POLL)
    return json.loads(store.get(f"{name}/{piece}/end"))


def _lead(name: str, candidate: Candidate, rounds: int, port: int, processes: int, device: str) -> None:
    """Run the one process of a candidate, or start several and pass their failure on."""
    # The server that this process comes from may have signals blocked (pretrain/runtime/signals.py): then nobody
    # could end it.
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    store = _connect(port)
    try:
        spawn.run_on_ranks(_serve, processes, name, candidate, rounds, port, device=device)
    except Exception as error:
        with contextlib.suppress(dist.DistError):  # nobody asks any more: the tool was killed
            store.set(f"{name}/failure", base64.b64encode(pickle.dumps(error)).decode())


def _serve(name: str, candidate: Candidate, rounds: int, port: int) -> None:
    """Do, in each process of a candidate, one piece of the work whenever the tool asks for it."""
    store = _connect(port)
    for piece, numbers in enumerate(_work(store, name, candidate, rounds)):
        if distributed.is_main():
            store.set(f"{name}/{piece}/end", json.dumps(numbers))


def _work(store: dist.TCPStore, name: str, candidate: Candidate, rounds: int) -> Iterator[Numbers]:
    def wait(piece: int) -> None:
        store.wait([f"{name}/{piece}/begin"], distributed.TIMEOUT)

    wait(0)
    runner = candidate.make(*candidate.arguments)
    yield {}
    for piece in range(1, rounds + 1):
        wait(piece)
        yield runner.measure()
    wait(rounds + 1)
    yield runner.report()


def _connect(port: int) -> dist.TCPStore:
    return dist.TCPStore("127.0.0.1", port, is_master=False, timeout=distributed.TIMEOUT)
