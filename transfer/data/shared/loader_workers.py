"""The worker processes that load images: they end with their loader, and their errors reach the user as its own."""

import contextlib
import pickle
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from pretrain.runtime import signals
from pretrain.runtime.errors import UserError, from_worker
from transfer.errors import TransferError

T = TypeVar("T")


@contextlib.contextmanager
def loading(loader: DataLoader[T]) -> Iterator[Iterator[T]]:
    """Give the batches of a loader, whose workers end with the block.

    They outlive a signal to the whole process group: the process that asked waits for what they load. So they ignore
    the signals by which an interpreter ends the processes that it started.
    """
    with signals.kept_from_children() if loader.num_workers else contextlib.nullcontext():
        batches: Any = iter(loader)
    try:
        yield batches
    finally:
        if loader.num_workers:
            batches._shutdown_workers()  # torch has no public way


@contextlib.contextmanager
def load_ahead(
    records: Sequence[dict[str, Any]], load: Callable[[dict[str, Any]], T], workers: int
) -> Iterator[Iterator[T | UserError]]:
    """Give what `load` makes of the records, in their order; a few of them are ahead of the one that is asked for.

    Args:
        records: Detectron2's standard dicts.
        load: a function that can be pickled. A UserError that it raises comes in place of its value.
        workers: processes that load; 0: load in this one, each record when it is asked for.
    """
    loader: DataLoader[T | UserError] = DataLoader(
        _Loaded(records, load),
        batch_size=None,
        num_workers=min(workers, len(records)),
        collate_fn=_as_it_is,
        generator=torch.Generator(),  # not the global one: its state must not depend on the number of workers
    )
    with loading(loader) as loaded:
        yield _with_errors_of_workers(loaded)


def loader_error(error: Exception) -> Exception:
    """Return what to raise for an error of a loader."""
    if isinstance(error, UserError):
        return from_worker(error)
    if "DataLoader worker" in str(error):  # torch's words for a worker that was killed
        reason = str(error).splitlines()[0]
        return TransferError(f"{reason}: did the machine run out of memory? Fewer DATALOADER.NUM_WORKERS need less")
    try:
        pickle.dumps(error)
    except Exception:  # it could not be told to the other ranks
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


class _Loaded(Dataset[Any]):
    """The values of records. A fault is returned, not raised: torch changes the text of what a worker raises."""

    def __init__(self, records: Sequence[dict[str, Any]], load: Callable[[dict[str, Any]], Any]) -> None:
        self.records, self.load = records, load

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Any:
        try:
            return self.load(self.records[index])
        except UserError as error:
            return error


def _with_errors_of_workers(loaded: Iterator[T]) -> Iterator[T]:
    while True:
        try:
            value = next(loaded)
        except StopIteration:
            return
        except Exception as error:
            raise loader_error(error) from error
        yield value


def _as_it_is(value: T) -> T:
    return value
