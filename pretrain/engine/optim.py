"""The optimizer, SGD in one pass over the weights' memory, and the schedules of the learning rate."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.sgd import sgd


class SGD(torch.optim.SGD):
    """A fused SGD: torch's, with its state, and as fast for every memory layout of a weight.

    Its kernel is at its best on contiguous tensors and slower than a plain loop on channels-last ones, so a weight is
    given to it as it lies in memory. Its multiply-adds are fused, but for the ends of its vectors: so it differs from
    the plain loop, and one layout from the other, in the last bit.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Update the parameters that have a gradient. A closure is not called."""
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            buffers: list[Tensor | None] = [None] * len(params)
            if group["momentum"]:
                # In a first step 0 x momentum + gradient is the gradient, which torch starts the buffer with.
                buffers = [_state(self.state[p], p) for p in params]
            sgd(
                [_as_it_lies(p, p) for p in params],
                [_as_it_lies(p.grad, p).contiguous() for p in params],
                [None if b is None else _as_it_lies(b, p) for b, p in zip(buffers, params, strict=True)],
                weight_decay=group["weight_decay"],
                momentum=group["momentum"],
                lr=group["lr"],
                dampening=group["dampening"],
                nesterov=group["nesterov"],
                maximize=group["maximize"],
                fused=True,
            )


def _state(state: dict[str, Tensor | None], parameter: Tensor) -> Tensor:
    """Return the momentum buffer of a parameter, laid out like it: one from a checkpoint may be laid out otherwise."""
    buffer = state.get("momentum_buffer")
    if buffer is None:
        buffer = state["momentum_buffer"] = torch.zeros_like(parameter)
    elif buffer.stride() != parameter.stride():
        buffer = state["momentum_buffer"] = torch.empty_like(parameter).copy_(buffer)
    return buffer


def _as_it_lies(x: Tensor, parameter: Tensor) -> Tensor:
    """Return a view of `x` that is contiguous where `x` is laid out like the parameter."""
    if parameter.ndim == 4 and parameter.is_contiguous(memory_format=torch.channels_last):
        return x.permute(0, 2, 3, 1)
    return x


def step_schedule(position: int, milestones: Sequence[int], gamma: float = 0.1) -> float:
    """Return `gamma` to the power of the milestones reached (MoCo v1: epochs 120 and 160). Positions count from 0."""
    return gamma ** sum(position >= milestone for milestone in milestones)


def cosine_schedule(position: int, end: int) -> float:
    """Return half a cosine from 1 at position 0 towards 0 at the end (MoCo v2: by epochs)."""
    return 0.5 * (1 + math.cos(math.pi * position / end))
