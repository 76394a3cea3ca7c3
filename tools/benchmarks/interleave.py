"""Contenders that take turns, A B A B: each in processes of its own, one at work while the others sleep.

So nothing that one leaves behind (memory, threads, a process group) is in another's numbers, and what disturbs the
machine for a while disturbs all of them.
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

from .errors import BenchmarkError

LOOK = 0.01  # seconds between two looks for an answer

Numbers = dict[str, Any]  # what JSON holds
Tell = Callable[[str, int, int], None]  # what begins, how many pieces are done, of how many


class Runner(Protocol):
    """One contender, in each of its processes."""

    def turn(self) -> Numbers:
        """Do the work once and say how long it took."""

    def report(self) -> Numbers:
        """What else is to be told, after the last turn."""


class Contender(NamedTuple):
    """How to make a contender's runner: a function of a module, called in each of its processes."""

    make: Callable[..., Runner]
    arguments: tuple[Any, ...]


class Outcome(NamedTuple):
    """What a contender's rank 0 said."""

    turns: list[Numbers]
    report: Numbers


def take_turns(
    contenders: Mapping[str, Contender],
    rounds: int,
    processes: int = 1,
    device: str = "cpu",
    tell: Tell = lambda said, done, of: None,
) -> dict[str, Outcome]:
    """Make the contenders one after the other, let each have its turn in every round, then have their reports.

    Args:
        processes: of each contender, on `device`; they can talk to each other.
        tell: called before each piece of work.

    Raises what a contender raised; BenchmarkError where its process died.
    """
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=distributed.TIMEOUT)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torchvision"])  # imported once for all contenders
    leaders = {
        name: context.Process(target=_lead, args=(name, contender, rounds, store.port, processes, device))
        for name, contender in contenders.items()
    }
    answers: dict[str, list[Numbers]] = {name: [] for name in contenders}
    pieces = ["start", *(f"turn {number} of {rounds}" for number in range(1, rounds + 1)), "report"]
    try:
        for leader in leaders.values():
            leader.start()
        for done, (piece, name) in enumerate(itertools.product(range(len(pieces)), contenders)):
            tell(f"{name}: {pieces[piece]}", done, len(pieces) * len(contenders))
            store.set(f"{name}/{piece}/begin", "")
            answers[name].append(_answer(store, name, piece, leaders[name]))
        for leader in leaders.values():
            leader.join()
    finally:
        for leader in leaders.values():
            if leader.is_alive():  # it waits for its turn, but another has failed
                leader.terminate()
                leader.join()
    return {name: Outcome(said[1:-1], said[-1]) for name, said in answers.items()}


def _answer(store: dist.TCPStore, name: str, piece: int, leader: BaseProcess) -> Numbers:
    while not store.check([f"{name}/{piece}/end"]):
        alive = leader.is_alive()  # asked first: who has failed says so before it dies
        if store.check([f"{name}/failure"]):
            raise pickle.loads(base64.b64decode(store.get(f"{name}/failure")))  # noqa: S301 (our own process wrote it)
        if not alive:
            raise BenchmarkError(f"{name}: a process died; was there too little memory?")
        time.sleep(LOOK)
    return json.loads(store.get(f"{name}/{piece}/end"))


def _lead(name: str, contender: Contender, rounds: int, port: int, processes: int, device: str) -> None:
    """The one process of a contender, or the one that starts them and has their failure."""
    # The server that this process comes from may have signals blocked (pretrain/runtime/signals.py): then nobody
    # could end it.
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    store = _connect(port)
    try:
        spawn.run_on_ranks(_serve, processes, name, contender, rounds, port, device=device)
    except Exception as error:
        with contextlib.suppress(dist.DistError):  # nobody asks any more: the tool was killed
            store.set(f"{name}/failure", base64.b64encode(pickle.dumps(error)).decode())


def _serve(name: str, contender: Contender, rounds: int, port: int) -> None:
    """In each process of a contender: one piece of the work whenever it is its turn."""
    store = _connect(port)
    for piece, said in enumerate(_work(store, name, contender, rounds)):
        if distributed.is_main():
            store.set(f"{name}/{piece}/end", json.dumps(said))


def _work(store: dist.TCPStore, name: str, contender: Contender, rounds: int) -> Iterator[Numbers]:
    def wait(piece: int) -> None:
        store.wait([f"{name}/{piece}/begin"], distributed.TIMEOUT)

    wait(0)
    runner = contender.make(*contender.arguments)
    yield {}
    for piece in range(1, rounds + 1):
        wait(piece)
        yield runner.turn()
    wait(rounds + 1)
    yield runner.report()


def _connect(port: int) -> dist.TCPStore:
    return dist.TCPStore("127.0.0.1", port, is_master=False, timeout=distributed.TIMEOUT)
