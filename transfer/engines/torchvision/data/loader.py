"""The endless stream of training batches; its order depends only on the seed and the position."""

import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pretrain.runtime.signals import StopRequest
from transfer.data.common.trainable import trainable_images
from transfer.data.shared.packed_records import take_records
from transfer.engines.common.batches import Batches, Draw, batches
from transfer.engines.common.broken_images import BrokenImages
from transfer.engines.common.semantic_input import SemanticExample, SemanticInput, load_example
from transfer.engines.torchvision.data.mapper import TrainingInput, load_sample
from transfer.engines.torchvision.data.repeat_factors import repeated_stream
from transfer.engines.torchvision.modeling.meta_arch import Sample
from transfer.errors import TransferError

__all__ = ["TrainingBatches", "batches", "stream", "usable"]


def usable(records: Sequence[dict[str, Any]], filter_empty: bool, min_keypoints: int = 0) -> Sequence[dict[str, Any]]:
    """Return the records to train on.

    Args:
        filter_empty: drop images that show no object, or crowds only.
        min_keypoints: drop images with fewer labelled keypoints.

    Raises:
        TransferError: no record is left.
    """
    kept = take_records(records, trainable_images(records, filter_empty, min_keypoints))
    if not kept:
        raise TransferError(f"DATASETS.TRAIN: none of the {len(records)} images shows an object to train on")
    return kept


def stream(size: int, seed: int) -> Iterator[Draw]:
    """Yield (position, index of a record) for one random order of all records after another, endlessly.

    The same on every rank.
    """
    generator = torch.Generator().manual_seed(seed)
    position = itertools.count()
    while True:
        for index in torch.randperm(size, generator=generator).tolist():
            yield next(position), index


class TrainingBatches(Batches[Sample | SemanticExample]):
    """The endless batches of this rank, from items `rank`, `rank + world_size`, ... of the stream.

    Args:
        records: Detectron2's standard dicts.
        factors: (N,) how often each record comes in an epoch (repeat_factors); None: once.
        group, batch_size, skip, workers, stop, broken: see Batches; without `broken`, no image may be broken.
    """

    def __init__(
        self,
        records: Sequence[dict[str, Any]],
        settings: TrainingInput | SemanticInput,
        *,
        batch_size: int,
        seed: int,
        factors: Tensor | None = None,
        group: bool = True,
        rank: int = 0,
        world_size: int = 1,
        skip: int = 0,
        workers: int = 0,
        stop: StopRequest | None = None,
        broken: BrokenImages | None = None,
    ) -> None:
        order = stream(len(records), seed) if factors is None else repeated_stream(factors, seed)
        super().__init__(
            records,
            functools.partial(_load, settings, seed),
            itertools.islice(order, rank, None, world_size),
            batch_size=batch_size,
            group=group,
            skip=skip,
            workers=workers,
            stop=stop or StopRequest(),
            broken=broken or BrokenImages(records, max_share=0.0),
        )


def _load(
    settings: TrainingInput | SemanticInput, seed: int, record: dict[str, Any], position: int
) -> Sample | SemanticExample:
    rng = np.random.default_rng((seed, position))
    if isinstance(settings, SemanticInput):
        return load_example(record, settings, rng)
    return load_sample(record, settings, rng)
