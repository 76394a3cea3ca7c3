"""The batch normalisation over the joined batch of several ranks, on a CPU too."""

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class SyncBatchNorm2d(nn.BatchNorm2d):
    """A BN layer over the joined batch of the ranks of `process_group` (None: all). torch's own refuses CPU tensors.

    Gradients of weight and bias are those of only this rank's rows, as in torch: DDP joins them.
    """

    def __init__(self, num_features: int, process_group: dist.ProcessGroup | None = None, **options: Any) -> None:
        super().__init__(num_features, **options)
        self.process_group = process_group

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, C, H, W); N may be 0 on a rank."""
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
    """The function: forward gathers (count, mean, variance), backward sums the two reductions of BN's gradient."""

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
        half, gradient = gradient.dtype, gradient.to(normalised.dtype)  # a sum of float16 may be infinite
        own_bias = gradient.sum((0, 2, 3))  # (C,)
        own_weight = (gradient * normalised).sum((0, 2, 3))  # (C,)
        total = torch.stack([own_bias, own_weight])
        dist.all_reduce(total, group=ctx.group)
        mean_gradient, mean_product = total / count
        centred = gradient - _channels(mean_gradient) - normalised * _channels(mean_product)
        return (centred * _channels(weight * scale)).to(half), own_weight, own_bias, None, None


def _channels(x: Tensor) -> Tensor:
    return x.view(1, -1, 1, 1)


def convert_sync_batchnorm(module: nn.Module, process_group: dist.ProcessGroup | None = None) -> nn.Module:
    """Replace every BatchNorm2d in `module` by one whose statistics are joined over `process_group` (None: all ranks).

    Layers that lie on a GPU become torch's own `nn.SyncBatchNorm`, the others `SyncBatchNorm2d`: move the module first.
    """

    def make(old: nn.BatchNorm2d) -> nn.Module:
        on_gpu = next((tensor.is_cuda for tensor in old.state_dict().values()), False)
        kind = nn.SyncBatchNorm if on_gpu else SyncBatchNorm2d
        return kind(old.num_features, process_group=process_group, **batchnorm_options(old))

    return replace_batchnorm(module, make)


def batchnorm_options(old: nn.BatchNorm2d) -> dict[str, Any]:
    return {
        "eps": old.eps,
        "momentum": old.momentum,
        "affine": old.affine,
        "track_running_stats": old.track_running_stats,
    }


def replace_batchnorm(module: nn.Module, make: Callable[[nn.BatchNorm2d], nn.Module]) -> nn.Module:
    if not isinstance(module, nn.BatchNorm2d):
        for name, child in module.named_children():
            setattr(module, name, replace_batchnorm(child, make))
        return module
    new = make(module).train(module.training)
    for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
        setattr(new, name, getattr(module, name))  # the same objects: an optimizer may hold them
    return new
