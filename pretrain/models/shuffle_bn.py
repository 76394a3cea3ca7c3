"""The ways to keep batch normalisation from leaking which key belongs to which query.

A query and its positive key come from one image. If both pass a BN layer in batches with the same companions, the
statistics tell them apart and the model cheats (MoCo, arXiv 1911.05722, section 3.3 and figure A.1). The cures:

- `shuffle` and `unshuffle`: keys are encoded in another order across ranks than queries (the published one);
- `GroupedBatchNorm2d`: several BN groups on one device, so that shuffling has groups to shuffle between;
- `SyncBatchNorm2d`: the statistics of several ranks are joined; over *all* ranks shuffling changes nothing any more.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from pretrain.runtime import distributed


def shuffle(images: Tensor, permutation: Tensor) -> Tensor:
    """Exchange images between the ranks so that the global batch lies in the order of `permutation`.

    Args:
        images: (N, ...) this rank's slice of the global batch: rows rank*N to (rank+1)*N.
        permutation: (world size x N,) int64 on the CPU, the same on every rank.

    Returns:
        (N, ...): rows `permutation[rank*N : (rank+1)*N]` of the global batch. Each rank sends only its own N images.
    """
    rank, world, n = distributed.rank(), distributed.world_size(), images.shape[0]
    slices = permutation.view(world, n)  # row d: the global rows that rank d wants
    if world == 1:
        return images[_sent(slices[0], images.device)]
    mine = [wanted[wanted // n == rank] - rank * n for wanted in slices]  # what I send to rank d, in its order
    senders = slices[rank] // n  # (N,) who sends each row that I want
    received = torch.empty_like(images)
    dist.all_to_all_single(
        received,
        images[_sent(torch.cat(mine), images.device)],
        output_split_sizes=torch.bincount(senders, minlength=world).tolist(),
        input_split_sizes=[len(rows) for rows in mine],
    )
    # Rows arrive sorted by sender; put them where they are wanted.
    arrival = _sent(senders.argsort(stable=True), images.device)
    shuffled = torch.empty_like(received)
    shuffled[arrival] = received
    return shuffled


def unshuffle(keys: Tensor, permutation: Tensor | None) -> Tensor:
    """Gather the keys of all ranks, in the order of the global batch: (N, dim) on each -> (world size x N, dim).

    `permutation` is the one given to `shuffle`, or None where the images were not shuffled.
    """
    gathered = distributed.all_gather(keys)
    return gathered if permutation is None else gathered[_sent(permutation.argsort(), keys.device)]


def _sent(rows: Tensor, device: torch.device) -> Tensor:
    return rows.to(device, non_blocking=True)  # else the host waits until a GPU has done all that it was asked for


class GroupedBatchNorm2d(nn.BatchNorm2d):
    """BN of `groups` consecutive parts of the batch, each on its own statistics: as many ranks on one device.

    The running statistics are those of the first group, as a run of several ranks saves those of rank 0.
    In eval mode plain BN.
    """

    def __init__(self, num_features: int, groups: int, **options: Any) -> None:
        super().__init__(num_features, **options)
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W); in training N must be a multiple of `groups`."""
        if not self.training or self.groups == 1:
            return super().forward(x)
        if x.shape[0] % self.groups:
            raise ValueError(f"a batch of {x.shape[0]} cannot be split into {self.groups} equal BN groups")
        first, *others = x.chunk(self.groups)  # each (N / groups, C, H, W)
        normalised = [super().forward(first)]
        normalised += [F.batch_norm(x, None, None, self.weight, self.bias, True, 0.0, self.eps) for x in others]
        return torch.cat(normalised)


class SyncBatchNorm2d(nn.BatchNorm2d):
    """BN over the joined batch of the ranks of `process_group` (None: all). torch's own refuses CPU tensors.

    Gradients of weight and bias are those of this rank's rows alone, as in torch: DDP joins them.
    """

    def __init__(self, num_features: int, process_group: dist.ProcessGroup | None = None, **options: Any) -> None:
        super().__init__(num_features, **options)
        self.process_group = process_group

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W); a rank may come with N = 0."""
        if not self.training or not dist.is_initialized():
            return super().forward(x)
        weight = self.weight if self.affine else x.new_ones(self.num_features)
        bias = self.bias if self.affine else x.new_zeros(self.num_features)
        output, mean, variance, count = _SyncedNormalisation.apply(x, weight, bias, self.eps, self.process_group)
        self._update_running_statistics(mean, variance, count)
        return output

    @torch.no_grad()
    def _update_running_statistics(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        momentum = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance * (count / (count - 1)), momentum)  # unbiased, as BN keeps it


class _SyncedNormalisation(torch.autograd.Function):
    """Forward: one gather of (count, mean, variance). Backward: one sum of the two reductions of BN's gradient."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, group: dist.ProcessGroup | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))  # statistics of bf16 in fp32
        channels = x.shape[1]
        own = wide.new_zeros(1 + 2 * channels)  # count, means, variances; zeros where this rank has no rows
        if x.numel():
            variance, mean = torch.var_mean(wide, dim=(0, 2, 3), correction=0)  # (C,) each
            own = torch.cat([mean.new_tensor([x.numel() // channels]), mean, variance])
        ranks = [torch.empty_like(own) for _ in range(dist.get_world_size(group))]
        dist.all_gather(ranks, own, group=group)
        counts, means, variances = torch.stack(ranks).split([1, channels, channels], dim=1)  # (ranks, 1 or C)
        count = counts.sum()
        mean = (counts * means).sum(0) / count
        variance = (counts * (variances + (means - mean) ** 2)).sum(0) / count
        scale = torch.rsqrt(variance + eps)
        normalised = (wide - _channels(mean)) * _channels(scale)
        ctx.save_for_backward(normalised, weight, scale, count)
        ctx.group = group
        ctx.mark_non_differentiable(mean, variance, count)
        output = torch.addcmul(_channels(bias), normalised, _channels(weight)).to(x.dtype)
        return output, mean, variance, count

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        normalised, weight, scale, count = ctx.saved_tensors
        own_bias = gradient.sum((0, 2, 3))  # (C,)
        own_weight = (gradient * normalised).sum((0, 2, 3))  # (C,)
        total = torch.stack([own_bias, own_weight])
        dist.all_reduce(total, group=ctx.group)
        mean_gradient, mean_product = total / count
        centred = gradient - _channels(mean_gradient) - normalised * _channels(mean_product)
        return centred * _channels(weight * scale), own_weight, own_bias, None, None


def _channels(x: Tensor) -> Tensor:
    return x.view(1, -1, 1, 1)


def split_batchnorm(module: nn.Module, groups: int) -> nn.Module:
    """Replace every BatchNorm2d in `module` by a `GroupedBatchNorm2d` with the same parameters and statistics."""
    return _replace(module, lambda old: GroupedBatchNorm2d(old.num_features, groups, **_options(old)))


def convert_sync_batchnorm(module: nn.Module, process_group: dist.ProcessGroup | None = None) -> nn.Module:
    """Replace every BatchNorm2d in `module` by one whose statistics are joined over `process_group` (None: all ranks).

    Layers that lie on a GPU become torch's own `nn.SyncBatchNorm`, the others `SyncBatchNorm2d`: move the module first.
    """

    def make(old: nn.BatchNorm2d) -> nn.Module:
        on_gpu = next((tensor.is_cuda for tensor in old.state_dict().values()), False)
        kind = nn.SyncBatchNorm if on_gpu else SyncBatchNorm2d
        return kind(old.num_features, process_group=process_group, **_options(old))

    return _replace(module, make)


def _options(old: nn.BatchNorm2d) -> dict[str, Any]:
    return {
        "eps": old.eps,
        "momentum": old.momentum,
        "affine": old.affine,
        "track_running_stats": old.track_running_stats,
    }


def _replace(module: nn.Module, make: Callable[[nn.BatchNorm2d], nn.Module]) -> nn.Module:
    if not isinstance(module, nn.BatchNorm2d):
        for name, child in module.named_children():
            setattr(module, name, _replace(child, make))
        return module
    new = make(module).train(module.training)
    for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
        setattr(new, name, getattr(module, name))  # the same objects: an optimizer may hold them
    return new
