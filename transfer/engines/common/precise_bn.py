"""The algorithm PreciseBN: BN statistics of the current weights, before every test (arXiv 2105.07576, section 3)."""

import itertools
import warnings
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from torch import nn

from pretrain.runtime.errors import UserError
from pretrain.runtime.hangs import clock
from pretrain.runtime.signals import Stopped
from transfer.engines.common import rng_state

T = TypeVar("T")


def update_statistics(model: nn.Module, batches: Iterable[Any], iterations: int) -> None:
    """Replace the running statistics of the model's batch norms by those of `iterations` training batches.

    The model must be in training mode. torch's generators and RetinaNet's loss_normalizer are left as they were, so
    that a test in between does not change the rest of the training.

    Raises:
        Stopped, UserError: by `batches`; the statistics are then those from before, good for saving.
    """
    with warnings.catch_warnings():
        # fvcore.nn's __init__ imports losses that use torch.jit; which category warns depends on torch.
        warnings.filterwarnings("ignore", message=".*torch.jit.*")
        from fvcore.nn.precise_bn import update_bn_stats

    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    normalizer: Any = getattr(model, "loss_normalizer", None)  # not a tensor of the model, in either engine
    try:
        with rng_state.preserve_rng_state():
            update_bn_stats(model, _noted(itertools.islice(batches, iterations), iterations), iterations)
    except (Stopped, UserError):
        for name, buffer in model.named_buffers():
            buffer.copy_(before[name])
        raise
    finally:
        if normalizer is not None:
            model.loss_normalizer = normalizer


def _noted(batches: Iterable[T], iterations: int) -> Iterator[T]:
    """Yield the batches, and note each that is through: with SyncBN the ranks wait for each other in every one."""
    clock.expect("the first batch of the BN statistics")
    for number, batch in enumerate(batches, 1):
        yield batch
        clock.came_further(f"batch {number} of {iterations} of the BN statistics")
