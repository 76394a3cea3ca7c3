"""Repeat factor sampling (LVIS, arXiv 1908.03195, section 5.2): images of rare classes come several times an epoch."""

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from transfer.engines.common.batches import Draw


def repeat_factors(records: Sequence[Mapping[str, Any]], threshold: float, sqrt: bool = True) -> Tensor:
    """Return how often each image comes in an epoch on average: the largest factor of its classes.

    Args:
        records: Detectron2's standard dicts, those that are trained on.
        threshold: classes in a smaller share of the images are repeated (DATALOADER.REPEAT_THRESHOLD).
        sqrt: the factor of a class in a share f is the root of threshold / f, not this quotient (REPEAT_SQRT).

    Returns:
        (N,) float32, from 1 up.
    """
    shown = [{item["category_id"] for item in record["annotations"]} for record in records]
    images = Counter(itertools.chain.from_iterable(shown))  # class -> the number of images that show it
    factors = {}
    for index, count in images.items():
        rarity = threshold / (count / len(records))
        factors[index] = max(1.0, math.sqrt(rarity) if sqrt else rarity)
    largest = [max((factors[index] for index in classes), default=1.0) for classes in shown]
    return torch.tensor(largest, dtype=torch.float32)


def repeated_stream(factors: Tensor, seed: int) -> Iterator[Draw]:
    """Yield (position, index of a record) for one random order after another, endlessly, as Detectron2's sampler does.

    In each order an image comes as often as the whole part of its factor says, and once more with the probability of
    the fractional part. The same on every rank.

    Args:
        factors: (N,) float32.
    """
    generator = torch.Generator().manual_seed(seed)
    position = itertools.count()
    whole = torch.trunc(factors)
    while True:
        more = torch.rand(len(factors), generator=generator) < factors - whole  # (N,)
        indices = torch.repeat_interleave((whole + more).long())  # (M,), rising
        for place in torch.randperm(len(indices), generator=generator).tolist():
            yield next(position), int(indices[place])
