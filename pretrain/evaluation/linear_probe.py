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
from pretrain.runtime import seeds
from pretrain.runtime.errors import PretrainError


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
) -> list[dict[str, Any]]:
    """Train the layer; all ranks call it. Defaults are the published ones.

    Args:
        val_features, val_labels: (n, C) and (n,), this rank's share.
        on_step: called after each step with the number of images, the loss () and the accuracy () of this rank's part.
        on_epoch: called with each row of the result when it is there.

    Returns a row for each epoch: epoch, lr, mean loss, train_top1 (of the batches as they came), and top1 and top5 of
    val, in [0, 1]. Raises PretrainError where the loss is not finite.
    """
    layer = _new_layer(val_features.shape[1], classes, seed).to(device)
    optimizer = torch.optim.SGD(layer.parameters(), lr, momentum=0.9, weight_decay=0.0)
    val_features, val_labels = val_features.to(device), val_labels.to(device)
    rows = []
    for epoch in range(epochs):
        optimizer.param_groups[0]["lr"] = lr * step_schedule(epoch, milestones)
        sums = torch.zeros(3, dtype=torch.float64, device=device)  # images, loss, right
        for batch, labels in source.epoch(epoch):
            labels = labels.to(device)
            logits = layer(batch)  # (n, classes)
            loss = F.cross_entropy(logits, labels, reduction="sum")
            optimizer.zero_grad()
            loss.backward()
            _average_gradients(layer, len(labels))
            optimizer.step()
            right = (logits.argmax(1) == labels).sum()
            sums += torch.stack([sums.new_tensor(len(labels)), loss.detach().double(), right.double()])
            if on_step and len(labels):
                on_step(len(labels), loss.detach() / len(labels), right / len(labels))
        images, total, right_ones = _sum_over_ranks(sums).tolist()
        if not math.isfinite(total):
            raise PretrainError(f"the loss became {total / images} in epoch {epoch}; a lower lr than {lr:g} may help")
        top1, top5 = evaluate_layer(layer, val_features, val_labels)
        row = {
            "epoch": epoch,
            "lr": optimizer.param_groups[0]["lr"],
            "loss": total / images,
            "train_top1": right_ones / images,
            "top1": top1,
            "top5": top5,
        }
        rows.append(row)
        if on_epoch:
            on_epoch(row)
    return rows


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
