"""A loss or a gradient that is not finite, found on all ranks before it reaches a weight, and traced to its rank.

Gradients are averaged over the ranks, so one rank's NaN is in those of all: each rank finds it in its own copy without
communication. Each rank keeps a sum of its own gradients from before the average, and the ranks compare these only when
something is not finite. Numbers of a GPU are read a step later: to read them at once, the GPU would have to run empty.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

from pretrain.runtime import distributed
from pretrain.runtime.errors import PretrainError


class NotFiniteError(PretrainError):
    """A step whose loss or gradient was not finite.

    Args:
        steps_ago: how many steps have begun after it.
    """

    def __init__(self, message: str, steps_ago: int) -> None:
        super().__init__(message, steps_ago)  # all arguments, so that it can be pickled
        self.message, self.steps_ago = message, steps_ago

    def __str__(self) -> str:
        return self.message


class DivergedError(PretrainError):
    """A run whose numbers are not finite any more: unlike after other errors, its weights are not worth saving."""


class OwnGradients:
    """The sums of this rank's own gradients, taken before they are averaged.

    Args:
        ranks: the model, under DistributedDataParallel where there are several processes.
    """

    def __init__(self, ranks: nn.Module) -> None:
        self._sums: list[Tensor] = []  # () each, of a bucket of gradients
        if isinstance(ranks, DistributedDataParallel):
            ranks.register_comm_hook(dist.group.WORLD, self._watch_and_average)

    def take(self) -> list[Tensor]:
        """Return and forget the sums of the last backward pass, () each; none where there is one process."""
        sums, self._sums = self._sums, []
        return sums

    def _watch_and_average(self, group: Any, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
        self._sums.append(bucket.buffer().sum())
        return allreduce_hook(group, bucket)


class Reading:
    """A number on its way from the device to the host.

    Args:
        number: (), which a GPU may not have computed yet.
    """

    def __init__(self, number: Tensor) -> None:
        self._host, self._event = number, None
        if number.is_cuda:
            self._host = torch.empty(number.shape, dtype=number.dtype, pin_memory=True)
            self._host.copy_(number, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()

    def item(self) -> float:
        """Return the number; waits for it, but not for work that the GPU was given later."""
        if self._event is not None:
            self._event.synchronize()
        return self._host.item()


def backward(loss: Tensor, share: float = 1.0) -> None:
    """Add `share` of the loss's gradient to the parameters, or NaN to each of them where the loss is not finite."""
    loss.backward(share + 0 * loss.detach())  # 0 x inf is NaN; 0 x any number changes nothing


def nonfinite_ranks(loss: Tensor, own: Sequence[Tensor]) -> str:
    """Name the ranks that had a loss or a gradient that was not finite, for a message. All ranks must call it.

    Args:
        loss: () of this rank.
        own: sums () of its gradients.
    """
    found = distributed.all_gather_object((loss.item(), all(math.isfinite(total) for total in own)))
    losses = [
        f"the loss on rank {rank} is {value}" for rank, (value, _) in enumerate(found) if not math.isfinite(value)
    ]
    if losses:  # they spoil gradients on other ranks too, which then say nothing
        return "; ".join(losses)
    gradients = [
        f"a gradient on rank {rank} is not finite (its loss is {value:.6g})"
        for rank, (value, finite) in enumerate(found)
        if not finite
    ]
    return "; ".join(gradients) or "the gradients of all ranks are finite, their mean is not"
