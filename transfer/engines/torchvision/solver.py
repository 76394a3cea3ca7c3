"""The optimizer, SGD as Detectron2 sets it up: parameter groups, learning rate schedules, gradient clipping."""

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

Multiplier = Callable[[int], float]  # iteration -> factor of the base learning rate

_NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm)


def make_optimizer(
    model: nn.Module,
    *,
    lr: float,
    momentum: float,
    nesterov: bool,
    weight_decay: float,
    weight_decay_norm: float,
    weight_decay_bias: float | None,
    bias_lr_factor: float,
) -> torch.optim.SGD:
    """Return SGD over the parameters that are not frozen, fused (the same numbers, twice as fast on a CPU).

    Its momentum begins as zeros: in a first step 0 x momentum + gradient is the gradient, with which torch begins. But
    torch's fused kernel makes its buffers without filling them before it learns that the scaled gradients of a first
    step overflowed, leaves the step out, and from then on takes what happened to lie in memory for the momentum.

    Args:
        weight_decay_norm: for norm layers, in place of `weight_decay`.
        weight_decay_bias: for every bias, also of norm layers; None: that of the layer's other parameters.
        bias_lr_factor: factor of the learning rate of every bias.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            decay = weight_decay_norm if isinstance(module, _NORMS) else weight_decay
            rate = lr
            if name == "bias":
                rate = lr * bias_lr_factor
                decay = decay if weight_decay_bias is None else weight_decay_bias
            if parameter.requires_grad:
                groups.setdefault((rate, decay), []).append(parameter)
    settings = [
        {"params": parameters, "lr": rate, "initial_lr": rate, "weight_decay": decay}
        for (rate, decay), parameters in groups.items()
    ]
    optimizer = torch.optim.SGD(settings, momentum=momentum, nesterov=nesterov, fused=True)
    if momentum:
        for parameter in (parameter for group in groups.values() for parameter in group):
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def set_lr(optimizer: torch.optim.Optimizer, factor: float) -> float:
    """Set every group's learning rate to `factor` times its base; returns that of the largest group."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor
    return max(optimizer.param_groups, key=lambda group: len(group["params"]))["lr"]


class Scheduler:
    """The learning rate scheduler; the rate depends only on the iteration. Its state is that of Detectron2's."""

    def __init__(self, optimizer: torch.optim.Optimizer, schedule: Multiplier) -> None:
        self.optimizer, self.schedule, self.next = optimizer, schedule, 0

    def set_lr(self, iteration: int) -> float:
        """Set the learning rate of `iteration`; returns it."""
        self.next = iteration + 1
        return set_lr(self.optimizer, self.schedule(iteration))

    def state_dict(self) -> dict[str, Any]:
        """Return the base learning rate of each group, and the next iteration."""
        return {"base_lrs": [group["initial_lr"] for group in self.optimizer.param_groups], "last_epoch": self.next}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from the iteration of `state_dict`."""
        self.next = state_dict["last_epoch"]


def multi_step(steps: Sequence[int], gamma: float) -> Multiplier:
    """Return the schedule gamma^k, k the number of `steps` that the iteration has reached."""
    return lambda iteration: gamma ** bisect_right(steps, iteration)


def cosine(max_iter: int, end: float) -> Multiplier:
    """Return a schedule that falls from 1 to `end` along half a cosine."""
    return lambda iteration: end + 0.5 * (1 - end) * (1 + math.cos(math.pi * iteration / max_iter))


def warm_up(
    schedule: Multiplier, factor: float, warmup_iters: int, max_iter: int, constant: bool = False
) -> Multiplier:
    """Return `schedule` with a linear warm-up (arXiv 1706.02677, section 2.2) to its value after `warmup_iters`.

    Args:
        factor: the line begins at `factor` times the schedule's first value.
        warmup_iters: length of the line; a shorter run is one long warm-up, as in Detectron2.
        max_iter: length of the run.
        constant: stay at the beginning of the line until the warm-up ends.
    """
    length = min(warmup_iters, max_iter)
    begin, end = factor * schedule(0), schedule(length)

    def multiplier(iteration: int) -> float:
        if iteration >= length:
            return schedule(iteration)
        return begin if constant else begin + (end - begin) * iteration / length

    return multiplier


def clip_gradients(parameters: Iterable[nn.Parameter], clip_type: str, value: float, norm_type: float) -> None:
    """Clip each parameter's gradient on its own: its elements to +-`value`, or its norm to `value`."""
    for parameter in parameters:
        if clip_type == "value":
            clip_grad_value_(parameter, value)
        else:
            clip_grad_norm_(parameter, value, norm_type)
