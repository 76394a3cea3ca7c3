"""A loss or a gradient that is not finite, found on all ranks before it reaches a weight, and traced to its rank.

Gradients are averaged over the ranks, so one rank's NaN is in everybody's: each rank finds it in its own copy without
a word. Whose it was is remembered where DDP hands the gradients over, and asked only then.
"""

import math
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

from pretrain import distributed


class OwnGradients:
    """Whether this rank's own gradients are finite, seen before they are averaged.

    Args:
        ranks: the model, under DistributedDataParallel where there are several processes.
    """

    def __init__(self, ranks: nn.Module) -> None:
        self.ranks = ranks
        self._sums: list[Tensor] = []  # () each, of a bucket of gradients
        if isinstance(ranks, DistributedDataParallel):
            ranks.register_comm_hook(dist.group.WORLD, self._watch_and_average)

    def forget(self) -> None:
        """Begin a step."""
        self._sums.clear()

    def finite(self) -> bool:
        """Of the last backward pass."""
        if isinstance(self.ranks, DistributedDataParallel):
            return all(bool(total.isfinite()) for total in self._sums)
        return all(bool(p.grad.isfinite().all()) for p in self.ranks.parameters() if p.grad is not None)

    def _watch_and_average(self, group: Any, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
        self._sums.append(bucket.buffer().sum())
        return allreduce_hook(group, bucket)


def backward(loss: Tensor, share: float = 1.0) -> None:
    """Add `share` of the loss's gradient to the parameters; of a loss that is not finite, NaN to each of them."""
    loss.backward(share + 0 * loss.detach())  # 0 x inf is NaN; 0 x any number changes nothing


def culprits(loss: Tensor, own: OwnGradients) -> str:
    """Which ranks had a loss or a gradient that was not finite: text for a message. All ranks must call it."""
    found = distributed.all_gather_object((loss.item(), own.finite()))
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
