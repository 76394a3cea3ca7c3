"""The processes of this machine that run one function together."""

import contextlib
import os
import pathlib
import pickle
import signal
import tempfile
from collections.abc import Callable
from typing import Any, TypeVar

import torch.distributed as dist
import torch.multiprocessing as multiprocessing

from pretrain.runtime import distributed, signals

T = TypeVar("T")


POLL = 0.2  # seconds between two looks for a signal to pass on


GRACE = 5  # seconds that the processes, which note signals and continue, have to end when one has failed


RESULT, FAILURE = "result", "failure"  # files through which a launched process answers


def run_on_ranks(
    function: Callable[..., T],
    processes: int,
    *args: Any,
    device: str = "cpu",
    stop: signals.StopRequest | None = None,
) -> T:
    """Call `function(*args)` in `processes` new processes of this machine that can talk to each other.

    Each has joined through `distributed.init` before the call. Returns what rank 0 returned; that, `function` and
    `args` must be picklable. The first failure ends the others and is raised here as itself, with its own traceback as
    the cause. One process: a direct call, here.

    stop: signals to stop that come here are passed on to the new processes, and wait there for a StopRequest of
    `function`'s own; this process waits until it has returned.
    """
    if processes == 1:
        distributed.init(distributed.select_device(device))
        return function(*args)
    # The store lives here, on a port that the system picks: no other job can take it in between.
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=distributed.TIMEOUT)
    with tempfile.TemporaryDirectory() as folder:
        outcome = pathlib.Path(folder)
        try:
            # Not by the forkserver: the one of signals.py has the signals to stop blocked, for loader workers.
            with signals.kept_from_children() if stop else contextlib.nullcontext():
                context = multiprocessing.spawn(
                    _worker, (processes, store.port, device, outcome, function, args), nprocs=processes, join=False
                )
            _wait(context, stop)
        except (multiprocessing.ProcessRaisedException, multiprocessing.ProcessExitedException) as error:
            if (outcome / FAILURE).exists():
                raise pickle.loads((outcome / FAILURE).read_bytes()) from error  # noqa: S301 (our own process wrote it)
            raise
        return pickle.loads((outcome / RESULT).read_bytes())  # noqa: S301


def _wait(context: multiprocessing.ProcessContext, stop: signals.StopRequest | None) -> None:
    """Wait until all have ended, or one has failed and the others are ended."""
    passed_on = False
    while not context.join(timeout=POLL if stop else None, grace_period=GRACE if stop else None):
        if stop and stop.name and not passed_on:
            passed_on = True
            for process in context.processes:
                if process.is_alive():
                    os.kill(process.pid, signal.Signals[stop.name])


def _worker(
    index: int, processes: int, port: int, device: str, outcome: pathlib.Path, function: Callable[..., Any], args: Any
) -> None:
    os.environ.update(LOCAL_RANK=str(index), LOCAL_WORLD_SIZE=str(processes))
    try:
        store = dist.TCPStore("127.0.0.1", port, is_master=False, timeout=distributed.TIMEOUT)
        distributed.join(distributed.select_device(device), store=store, rank=index, world_size=processes)
        result = function(*args)
        if index == 0:
            (outcome / RESULT).write_bytes(pickle.dumps(result))
        distributed.barrier()  # nobody leaves while another still talks
    except Exception as error:
        # Only the first counts: what the others raise next is that they have lost this one. The link makes it whole
        # at once: this process may be ended any moment now.
        own = outcome / str(index)
        own.write_bytes(pickle.dumps(error))
        with contextlib.suppress(FileExistsError):
            os.link(own, outcome / FAILURE)
        raise
    finally:
        distributed.shutdown()
