"""The endless stream of training batches: which image comes when depends on the seed and the position alone."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from pretrain import distributed
from transfer.engines.torchvision.detector import Sample
from transfer.engines.torchvision.input import TrainingInput, load_sample
from transfer.errors import TransferError

Draw = tuple[int, int]  # position in the stream, index of the record


def usable(records: Sequence[dict[str, Any]], filter_empty: bool, min_keypoints: int = 0) -> list[dict[str, Any]]:
    """The records to train on: with `filter_empty` those that show more than crowds; with enough labelled keypoints."""
    kept = [r for r in records if not filter_empty or any(not a.get("iscrowd", 0) for a in r["annotations"])]
    if min_keypoints:
        kept = [r for r in kept if _labelled_keypoints(r) >= min_keypoints]
    if not kept:
        raise TransferError(f"DATASETS.TRAIN: none of {len(records)} images shows an object to train on")
    return kept


def _labelled_keypoints(record: dict[str, Any]) -> int:
    return sum(visibility > 0 for a in record["annotations"] for visibility in a.get("keypoints", ())[2::3])


def stream(size: int, seed: int) -> Iterator[Draw]:
    """One random order of all records after another, without end; the same on every rank."""
    generator = torch.Generator().manual_seed(seed)
    position = itertools.count()
    while True:
        for index in torch.randperm(size, generator=generator).tolist():
            yield next(position), index


def batches(draws: Iterator[Draw], wide: Sequence[bool] | None, batch_size: int) -> Iterator[list[Draw]]:
    """Gather draws into batches.

    Args:
        wide: whether each record's image is wider than high; a batch then holds one kind only, so that there is little
            padding. None: any kind.
    """
    waiting: dict[bool, list[Draw]] = {False: [], True: []}
    for draw in draws:
        group = waiting[wide[draw[1]] if wide is not None else False]
        group.append(draw)
        if len(group) == batch_size:
            yield group[:]
            group.clear()


class TrainingBatches:
    """This rank's batches, endlessly: the stream's draws `rank`, `rank + world_size`, ... Ranks iterate in step.

    Args:
        records: Detectron2's standard dicts.
        batch_size: images a batch of this rank.
        group: put wide and high images into batches of their own.
        skip: batches that a resumed run has seen already.
        workers: processes that load images; 0: load in this one.
    """

    def __init__(
        self,
        records: Sequence[dict[str, Any]],
        settings: TrainingInput,
        *,
        batch_size: int,
        seed: int,
        group: bool = True,
        rank: int = 0,
        world_size: int = 1,
        skip: int = 0,
        workers: int = 0,
    ) -> None:
        wide = [r["width"] > r["height"] for r in records] if group else None
        draws = itertools.islice(stream(len(records), seed), rank, None, world_size)
        self.loader = DataLoader(
            _Images(records, settings, seed),
            batch_sampler=itertools.islice(batches(draws, wide, batch_size), skip, None),
            num_workers=workers,
            collate_fn=list,
            generator=torch.Generator(),  # not the global one: its state must not depend on the number of workers
        )

    def __iter__(self) -> Iterator[list[Sample]]:
        for batch in self.loader:
            # A rank that stops alone would leave the others waiting for it.
            distributed.agree(next((sample for sample in batch if isinstance(sample, TransferError)), None))
            yield batch


class _Images(Dataset[Sample | TransferError]):
    """Records as samples. A fault is returned, not raised: raised in a worker it would arrive as another text."""

    def __init__(self, records: Sequence[dict[str, Any]], settings: TrainingInput, seed: int) -> None:
        self.records, self.settings, self.seed = records, settings, seed

    def __getitem__(self, draw: Draw) -> Sample | TransferError:
        position, index = draw
        try:
            return load_sample(self.records[index], self.settings, np.random.default_rng((self.seed, position)))
        except TransferError as error:
            return error
