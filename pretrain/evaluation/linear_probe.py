"""The linear probe: one linear layer on a frozen backbone (MoCo, arXiv 1911.05722, section 4.1 and its released code).

Published: learning rate 30, x 0.1 at epochs 60 and 80 of 100, batch 256, SGD with momentum 0.9 and no weight decay,
the backbone in eval mode, its BN statistics included, on a new random crop of every image in every epoch.

The layer's training is the same for those and for cached features: a `probe_features.FeatureSource` gives them.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from pretrain.engine.optim import step_schedule
from pretrain.evaluation.probe_features import FeatureSource
from pretrain.runtime import distributed, seeds
from pretrain.runtime.errors import PretrainError, Stopped, UserError
from pretrain.runtime.signals import StopRequest, any_rank_asked


def train_layer(
    source: FeatureSource,
    val_features: Tensor,
    val_labels: Tensor,
    classes: int,
    device: torch.device,
    lr: float = 30.0,
    epochs: int = 100,
    milestones: Sequence[int] = (60, 80),
    seed: int = 0,
    on_step: Callable[[int, Tensor, Tensor], None] | None = None,
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
    save: Callable[[dict[str, Any]], None] | None = None,
    state: dict[str, Any] | None = None,
    stop: StopRequest | None = None,
) -> list[dict[str, Any]]:
    """Train the layer; all ranks call it. Defaults are the published ones.

    Args:
        val_features, val_labels: (n, C) and (n,), this rank's share.
        on_step: called after each step with the number of images, the loss () and the accuracy () of this rank's part.
        on_epoch: called with each row of the result when it is there.
        save: called with the state after each epoch, and between two steps where the training ends early.
        state: what `save` got, to go on from there; None: from the beginning.
        stop: looked at before each step.

    Returns a row for each epoch: epoch, lr, mean loss, train_top1 (of the batches as they came), and top1 and top5 of
    val, in [0, 1]. Raises PretrainError where the loss is not finite, what the source raises, and signals.Stopped on
    all ranks where `stop` asked one of them.
    """
    val = (val_features.to(device), val_labels.to(device))
    training = _Training(source, _new_layer(val_features.shape[1], classes, seed).to(device), lr)
    if state:
        training.load_state_dict(state)
    for epoch in range(training.epoch, epochs):
        training.optimizer.param_groups[0]["lr"] = lr * step_schedule(epoch, milestones)
        try:
            training.finish_epoch(stop, on_step)
        except (UserError, Stopped):  # raised on all ranks, between two steps
            if save:
                save(training.state_dict())
            raise
        training.enter_row(*val)
        if on_epoch:
            on_epoch(training.rows[-1])
        if save:
            save(training.state_dict())
    return training.rows


class _Training:
    """A training of the layer, at any step of it.

    Attributes:
        epoch: the epochs that are finished.
        step: the steps of the next epoch that are done.
        sums: (3,) float64 of these steps and this rank: images, loss, right ones.
        rows: of the finished epochs.
    """

    def __init__(self, source: FeatureSource, layer: nn.Linear, lr: float) -> None:
        self.source, self.layer, self.lr = source, layer, lr
        self.optimizer = torch.optim.SGD(layer.parameters(), lr, momentum=0.9, weight_decay=0.0)
        self.epoch = self.step = 0
        self.sums = torch.zeros(3, dtype=torch.float64, device=layer.weight.device)
        self.rows: list[dict[str, Any]] = []

    def finish_epoch(
        self, stop: StopRequest | None = None, on_step: Callable[[int, Tensor, Tensor], None] | None = None
    ) -> None:
        """Do the steps of an epoch that are not done yet."""
        for batch, labels in self.source.epoch(self.epoch, self.step):
            if stop and any_rank_asked(stop):
                raise Stopped(f"after step {self.step} of epoch {self.epoch}")
            labels = labels.to(batch.device)
            logits = self.layer(batch)  # (n, classes)
            loss = F.cross_entropy(logits, labels, reduction="sum")
            self.optimizer.zero_grad()
            loss.backward()
            _average_gradients(self.layer, len(labels))
            self.optimizer.step()
            right = (logits.argmax(1) == labels).sum()
            self.sums += torch.stack([self.sums.new_tensor(len(labels)), loss.detach().double(), right.double()])
            self.step += 1
            if on_step and len(labels):
                on_step(len(labels), loss.detach() / len(labels), right / len(labels))

    def enter_row(self, val_features: Tensor, val_labels: Tensor) -> None:
        """Measure the layer at the end of an epoch. Raises PretrainError where its loss was not finite."""
        images, total, right = _sum_over_ranks(self.sums).tolist()
        if not math.isfinite(total):
            raise PretrainError(
                f"the loss became {total / images} in epoch {self.epoch}; a lower lr than {self.lr:g} may help"
            )
        top1, top5 = evaluate_layer(self.layer, val_features, val_labels)
        row = {
            "epoch": self.epoch,
            "lr": self.optimizer.param_groups[0]["lr"],
            "loss": total / images,
            "train_top1": right / images,
            "top1": top1,
            "top5": top5,
        }
        self.rows.append(row)
        self.epoch, self.step, self.sums = self.epoch + 1, 0, torch.zeros_like(self.sums)

    def state_dict(self) -> dict[str, Any]:
        """Return what a bit-exact continuation needs; all ranks call it."""
        return {
            "layer": self.layer.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "epoch": self.epoch,
            "step": self.step,
            "sums": distributed.all_gather_object(self.sums.tolist()),  # of each rank: their order is not to change
            "rows": list(self.rows),
            "broken": sorted(self.source.broken),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave, with any number of ranks."""
        self.layer.load_state_dict(state["layer"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.epoch, self.step, self.rows = state["epoch"], state["step"], list(state["rows"])
        self.source.broken |= set(state["broken"])
        sums = torch.tensor(state["sums"], dtype=torch.float64)  # (ranks, 3)
        if len(sums) != distributed.world_size():
            sums = torch.cat([sums.sum(0, keepdim=True), torch.zeros(distributed.world_size() - 1, 3)])
        self.sums = sums[distributed.rank()].to(self.sums)


@torch.no_grad()
def evaluate_layer(layer: nn.Linear, rows: Tensor, labels: Tensor) -> tuple[float, float]:
    """Measure top-1 and top-5 accuracy, in [0, 1].

    Args:
        layer: (n, C) -> (n, classes).
        rows: (n, C), features of this rank's share.
        labels: (n,) int64, their classes.
    """
    counts = torch.tensor([len(labels), 0, 0], dtype=torch.float64, device=rows.device)
    if len(labels):
        best = layer(rows).topk(min(5, layer.out_features), dim=1).indices  # (n, 5)
        hits = best == labels[:, None]
        counts[1:] = torch.stack([hits[:, 0].sum(), hits.any(1).sum()])
    images, first, among = _sum_over_ranks(counts).tolist()
    return first / images, among / images


def _new_layer(width: int, classes: int, seed: int) -> nn.Linear:
    """Make the layer with weights from N(0, 0.01) and bias 0: as published, the same on every rank."""
    layer = nn.utils.skip_init(nn.Linear, width, classes)
    nn.init.normal_(layer.weight, std=0.01, generator=seeds.generator("probe layer", seed))
    nn.init.zeros_(layer.bias)
    return layer


def _average_gradients(layer: nn.Linear, images: int) -> None:
    """Turn gradients summed over this rank's images into means over all ranks' images, in one exchange."""
    gradients = [parameter.grad for parameter in layer.parameters() if parameter.grad is not None]
    flat = torch.cat([*(gradient.flatten() for gradient in gradients), gradients[0].new_tensor([images])])
    flat = _sum_over_ranks(flat)
    for gradient, mean in zip(gradients, (flat[:-1] / flat[-1]).split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def _sum_over_ranks(values: Tensor) -> Tensor:
    if dist.is_initialized():
        dist.all_reduce(values)
    return values
