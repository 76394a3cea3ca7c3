"""The endless training batches of a rank, planned without loading an image, so that a run can resume at any."""

import itertools
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from pretrain.runtime import distributed, signals
from pretrain.runtime.errors import UserError
from pretrain.runtime.signals import Stopped
from transfer.data.shared.loader_workers import loader_error, loading
from transfer.engines.common.broken_images import UNREADABLE, BrokenImages, none_readable, replacements
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


def check_shares(cfg: Any, processes: int) -> None:
    """Raise TransferError where the processes cannot share the batch of SOLVER.IMS_PER_BATCH images evenly."""
    images = cfg.SOLVER.IMS_PER_BATCH
    if images < processes or images % processes:
        below = images // processes * processes
        right = f"{below} or {below + processes}" if below else f"a multiple of {processes}, or start fewer processes"
        raise TransferError(
            f"SOLVER.IMS_PER_BATCH {images}: {processes} processes cannot share {images} images evenly; give {right}"
        )


class Example(NamedTuple):
    """An example, and the faults of the images that were to be used: the index of each one's record -> its fault."""

    value: Any
    faults: dict[int, UserError]


def in_step(
    loaded: Iterator[list[Example | Exception]], broken: BrokenImages, stop: signals.StopRequest
) -> Generator[list[Any], None, None]:
    """Yield the examples of batches that this rank loads. Before each one all ranks agree on how it stands.

    Raises, on every rank at the same batch, Stopped, or what any of them has met: a rank that ended alone would leave
    the others waiting for it.
    """
    while True:
        fault: Exception | None = None
        batch: list[Any] = []
        try:
            batch = next(loaded)
            fault = next((example for example in batch if isinstance(example, Exception)), None)
        except Exception as error:
            fault = loader_error(error)
        news = fault is None and broken.note({index: met for one in batch for index, met in one.faults.items()})
        stopping, news = distributed.agree(fault, stop.name is not None, news)
        if news:
            broken.share()
        if stopping:
            raise Stopped("between two batches")
        yield [example.value for example in batch]


class Batches(Generic[T]):
    """The batches of a rank, the same for any number of workers. Ranks iterate in step.

    An image that cannot be read is replaced by another, always the same one.

    Args:
        records: Detectron2's standard dicts.
        load: makes an example of a record and its position in the stream; all randomness must come from the position.
        draws: of this rank, without end.
        batch_size: images a batch of this rank.
        group: put wide and high images into separate batches.
        skip: number of batches that a resumed run has seen already.
        workers: processes that load images; 0: load in this one.
        stop: looked at between two batches.
        broken: the images that cannot be read.

    Iterating raises Stopped, or UserError for a record that cannot be loaded, on every rank. Close the iterator
    (contextlib.closing): its workers end with it alone (transfer.data.shared.loader_workers).
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
        broken: BrokenImages,
    ) -> None:
        self.stop, self.broken = stop, broken
        wide = [r["width"] > r["height"] for r in records] if group else None
        self.loader = DataLoader(
            _Images(records, load),
            batch_sampler=itertools.islice(batches(draws, wide, batch_size), skip, None),
            num_workers=workers,
            collate_fn=list,
            generator=torch.Generator(),  # not the global one: its state must not depend on the number of workers
        )

    def __iter__(self) -> Generator[list[T], None, None]:
        with loading(self.loader) as loaded:
            yield from in_step(loaded, self.broken, self.stop)


class _Images(Dataset[Any]):
    """The examples of records. A fault is returned, not raised: torch changes the text of what a worker raises."""

    def __init__(self, records: Sequence[dict[str, Any]], load: Load[Any]) -> None:
        self.records, self.load = records, load

    def __getitem__(self, draw: Draw) -> Example | Exception:
        position, index = draw
        faults: dict[int, UserError] = {}
        for used in replacements(index, len(self.records)):
            try:
                return Example(self.load(self.records[used], position), faults)
            except UNREADABLE as error:
                faults[used] = error
            except UserError as error:
                return error
        return none_readable(list(faults.values()))
