"""The processes of this machine that run one function together."""

import contextlib
import os
import pathlib
import pickle
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import torch.distributed as dist
import torch.multiprocessing as multiprocessing

from pretrain.runtime import distributed, signals
from pretrain.runtime.errors import RanksError, user_message
from pretrain.runtime.hangs.watch import HUNG
from pretrain.runtime.ranks import first_errors
from pretrain.runtime.ranks.failures import Failure, describe_failures

T = TypeVar("T")


POLL = 0.2  # seconds between two looks for a signal to pass on


GRACE = 5  # seconds that the others, which note signals and continue, have to end when one has failed


RESULT, FAILURE = "result", "failure"  # files through which the processes answer


def run_on_ranks(
    function: Callable[..., T],
    processes: int,
    *args: Any,
    device: str = "cpu",
    stop: signals.StopRequest | None = None,
    settings: Mapping[str, object] | None = None,
) -> T:
    """Call `function(*args)` in `processes` new processes of this machine that can talk to each other.

    Each has joined through `distributed.init` before the call. Returns what rank 0 returned; that, `function` and
    `args` must be picklable. The first failure ends the others and is raised here as itself; its cause, a RanksError,
    has the text of the errors of all ranks. One process: a direct call, here.

    stop: signals to stop that come here are passed on to the new processes, and wait there for a StopRequest of
    `function`'s own; this process waits until it has returned.
    settings: that all processes must have in common, where a launcher has started them.
    """
    if processes == 1:
        asked = (lambda: stop.name) if stop else (lambda: None)
        distributed.init(distributed.select_device(device), settings, asked)
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
            _wait(context, outcome, stop)
        except (multiprocessing.ProcessRaisedException, multiprocessing.ProcessExitedException):
            if any(process.exitcode == HUNG for process in context.processes):
                raise SystemExit(HUNG) from None  # rank 0 has said all
            found = _read_failures(outcome)
            if not found:  # killed without a word
                raise
            _raise_first(found, processes)
        return pickle.loads((outcome / RESULT).read_bytes())  # noqa: S301


def _wait(context: multiprocessing.ProcessContext, outcome: pathlib.Path, stop: signals.StopRequest | None) -> None:
    """Wait until all have ended, or one has failed and the others are ended."""
    passed_on = False
    # Those that fail with it get time to say so, and rank 0 to save, before they are ended.
    while not context.join(timeout=POLL, grace_period=_grace(outcome)):
        if stop and stop.name and not passed_on:
            passed_on = True
            for process in context.processes:
                if process.is_alive():
                    os.kill(process.pid, signal.Signals[stop.name])


def _grace(outcome: pathlib.Path) -> float:
    agreed = any(left.failure.agreed for left in _read_failures(outcome))
    return first_errors.PATIENCE_AGREED if agreed else GRACE


@dataclass(frozen=True)
class _Left:
    """The error that a process has left, and when."""

    when: float
    error: Exception
    failure: Failure


def _read_failures(outcome: pathlib.Path) -> list[_Left]:
    """Return what the processes that failed have left, in the order in which they failed."""
    # Our own processes wrote it; each made it whole before it gave it its name.
    found = [pickle.loads(path.read_bytes()) for path in outcome.glob(f"{FAILURE}*")]  # noqa: S301
    return sorted(found, key=lambda left: left.when)


def _raise_first(found: Sequence[_Left], processes: int) -> NoReturn:
    """Raise the first error; its cause has the text for the user, of the errors of all ranks."""
    first = next((left for left in found if not left.failure.follows), found[0])
    raise first.error from RanksError(describe_failures([left.failure for left in found], processes))


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
        _leave_failure(outcome, index, error)
        first_errors.end_at_once(1)
    distributed.shutdown()


def _leave_failure(outcome: pathlib.Path, index: int, error: Exception) -> None:
    """Write the error of this process, which is about to end, for the one that has started it."""
    message = user_message(error)
    text = traceback.format_exc() if message is None else message
    failure = first_errors.failure_of(index, text, 1, error, is_bug=message is None)
    content = pickle.dumps(_Left(time.monotonic(), distributed.portable(error), failure))
    unfinished = outcome / f"unfinished{index}"
    unfinished.write_bytes(content)
    unfinished.rename(outcome / f"{FAILURE}{index}")
