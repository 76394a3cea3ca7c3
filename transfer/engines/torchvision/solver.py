"""SGD as Detectron2 sets it up: groups of parameters, learning rate over the iterations, clipping."""

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
    """SGD over the parameters that are not frozen, in one pass over each (the same numbers, twice as fast on a CPU).

    Args:
        weight_decay_norm: of norm layers, in place of `weight_decay`.
        weight_decay_bias: of every bias, norm layers' too; None: as the layer's other parameters.
        bias_lr_factor: of every bias's learning rate.
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
    return torch.optim.SGD(settings, momentum=momentum, nesterov=nesterov, fused=True)


def set_lr(optimizer: torch.optim.Optimizer, factor: float) -> float:
    """Set every group's learning rate to `factor` times its base; returns that of the largest group."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor
    return max(optimizer.param_groups, key=lambda group: len(group["params"]))["lr"]


class Scheduler:
    """Sets the learning rate, which the iteration alone decides. Its state is there to be read, as Detectron2's."""

    def __init__(self, optimizer: torch.optim.Optimizer, schedule: Multiplier) -> None:
        self.optimizer, self.schedule, self.next = optimizer, schedule, 0

    def set_lr(self, iteration: int) -> float:
        """Set the learning rate of `iteration`; returns it."""
        self.next = iteration + 1
        return set_lr(self.optimizer, self.schedule(iteration))

    def state_dict(self) -> dict[str, Any]:
        """The base learning rate of each group, and the iteration to come."""
        return {"base_lrs": [group["initial_lr"] for group in self.optimizer.param_groups], "last_epoch": self.next}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self.next = state_dict["last_epoch"]


def multi_step(steps: Sequence[int], gamma: float) -> Multiplier:
    """`gamma` to the power of the number of steps passed."""
    return lambda iteration: gamma ** bisect_right(steps, iteration)


def cosine(max_iter: int, end: float) -> Multiplier:
    """Half a cosine from 1 to `end`."""
    return lambda iteration: end + 0.5 * (1 - end) * (1 + math.cos(math.pi * iteration / max_iter))


def warm_up(
    schedule: Multiplier, factor: float, warmup_iters: int, max_iter: int, constant: bool = False
) -> Multiplier:
    """`schedule` with a warm-up in front (arXiv 1706.02677, section 2.2): a line to where the schedule then stands.

    Args:
        factor: of the schedule's first value, where the line begins.
        warmup_iters: length of the line; a run shorter than it is one long warm-up, as in Detectron2.
        constant: stay at the beginning of the line.
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
