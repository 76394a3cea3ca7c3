"""The endless training batches of a rank, planned without loading an image, so that a run can resume at any."""

import contextlib
import itertools
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from pretrain.runtime import distributed, signals
from pretrain.runtime.signals import Stopped
from transfer.errors import TransferError

T = TypeVar("T")
Draw = tuple[int, int]  # position in the stream, index of the record
Load = Callable[[dict[str, Any], int], T]  # record, position


def batches(draws: Iterator[Draw], wide: Sequence[bool] | None, batch_size: int) -> Iterator[list[Draw]]:
    """Gather draws into batches.

    Args:
        draws: the images in order, without end.
        wide: for each record, True if its image is wider than high; a batch then holds only one kind, so that there
            is little padding. None: any kind.
        batch_size: draws in a batch.
    """
    waiting: dict[bool, list[Draw]] = {False: [], True: []}
    for draw in draws:
        group = waiting[wide[draw[1]] if wide is not None else False]
        group.append(draw)
        if len(group) == batch_size:
            yield group[:]
            group.clear()


class Batches(Generic[T]):
    """The batches of a rank, the same for any number of workers. Ranks iterate in step.

    Args:
        records: Detectron2's standard dicts.
        load: makes an example of a record and its position in the stream; all randomness must come from the position.
        draws: of this rank, without end.
        batch_size: images a batch of this rank.
        group: put wide and high images into separate batches.
        skip: number of batches that a resumed run has seen already.
        workers: processes that load images; 0: load in this one.
        stop: looked at between two batches.

    Iterating raises Stopped, or TransferError for a record that cannot be loaded, on every rank. Close the iterator
    (contextlib.closing): its workers ignore the signals by which an interpreter ends the processes it started.
    """

    def __init__(
        self,
        records: Sequence[dict[str, Any]],
        load: Load[T],
        draws: Iterator[Draw],
        *,
        batch_size: int,
        group: bool,
        skip: int,
        workers: int,
        stop: signals.StopRequest,
    ) -> None:
        self.workers, self.stop = workers, stop
        wide = [r["width"] > r["height"] for r in records] if group else None
        self.loader = DataLoader(
            _Images(records, load),
            batch_sampler=itertools.islice(batches(draws, wide, batch_size), skip, None),
            num_workers=workers,
            collate_fn=list,
            generator=torch.Generator(),  # not the global one: its state must not depend on the number of workers
        )

    def __iter__(self) -> Generator[list[T], None, None]:
        # Workers must outlive a signal to the whole process group: the loop waits for the batch that they load.
        with signals.kept_from_children() if self.workers else contextlib.nullcontext():
            loaded: Any = iter(self.loader)
        try:
            for batch in loaded:
                # A rank that stops alone would leave the others waiting for it.
                fault = next((example for example in batch if isinstance(example, TransferError)), None)
                (stopping,) = distributed.agree(fault, self.stop.name is not None)
                if stopping:
                    raise Stopped("between two batches")
                yield batch
        finally:
            if self.workers:
                loaded._shutdown_workers()  # torch has no public way


class _Images(Dataset[Any]):
    """The examples of records. A fault is returned, not raised: torch changes the text of what a worker raises."""

    def __init__(self, records: Sequence[dict[str, Any]], load: Load[Any]) -> None:
        self.records, self.load = records, load

    def __getitem__(self, draw: Draw) -> Any:
        position, index = draw
        try:
            return self.load(self.records[index], position)
        except TransferError as error:
            return error
