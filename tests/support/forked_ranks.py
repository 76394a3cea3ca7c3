"""Ranks forked from one process that has imported everything: a start costs a tenth of a second, not five.

tests/pretrain/runtime keeps the real starts, by the fixture `spawned_ranks`.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from multiprocessing import forkserver
from typing import Any

import pytest

PRELOADED = ["pytest", "hypothesis", "torch._dynamo", "torchvision", "pretrain.train", "transfer.run.plan"]


def start(
    function: Callable[..., None],
    args: tuple[Any, ...] = (),
    nprocs: int = 1,
    join: bool = True,
    daemon: bool = False,
    start_method: str = "spawn",
) -> Any:
    """Stand in for torch.multiprocessing.spawn."""
    from torch import multiprocessing

    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    given = (dict(os.environ), blocked, function, args)
    return multiprocessing.start_processes(_rank, given, nprocs, join, daemon, "forkserver")


def lead(*arguments: Any) -> None:
    """Stand in for `interleave._lead`, which is itself in a process of the forkserver: its ranks are forked from it."""
    from torch import multiprocessing

    from benchmarks import interleave

    def fork(function: Callable[..., None], args: tuple[Any, ...], nprocs: int, join: bool) -> Any:
        return multiprocessing.start_processes(function, args, nprocs, join, start_method="fork")

    multiprocessing.spawn = fork
    interleave._lead(*arguments)


def _rank(
    index: int, environment: dict[str, str], blocked: set[int], function: Callable[..., None], args: tuple[Any, ...]
) -> None:
    """Take over what a spawned process would have of its parent, not of the server that it is forked from."""
    os.environ.clear()
    os.environ.update(environment)
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    function(index, *args)


@contextlib.contextmanager
def forked() -> Iterator[None]:
    """Let `spawn.run_on_ranks` fork its processes."""
    torch_processes = sys.modules.get("torch.multiprocessing")
    if torch_processes is None:  # nothing that was collected starts ranks
        yield
        return
    forkserver.set_forkserver_preload(PRELOADED)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch_processes, "spawn", start)
        yield


@contextlib.contextmanager
def spawned() -> Iterator[None]:
    """Let `spawn.run_on_ranks` spawn its processes, as it does outside the tests."""
    from torch import multiprocessing

    spawn = sys.modules["torch.multiprocessing.spawn"].spawn

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(multiprocessing, "spawn", spawn)
        yield
