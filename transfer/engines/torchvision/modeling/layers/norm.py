"""The normalisation layers by their names in the configuration, and the convolution with such a layer."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pretrain.runtime.sync_batchnorm import SyncBatchNorm2d

NormFactory = Callable[[int], nn.Module]


class FrozenBatchNorm2d(nn.Module):
    """A batch norm whose statistics, scale and bias are fixed.

    Args:
        channels: C.
        counted: keep `num_batches_tracked`, as Detectron2 does in a norm that was frozen after it was built.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, counted: bool = False, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels) - eps)  # so that a new layer changes nothing
        self.register_buffer("num_batches_tracked", torch.tensor(0) if counted else None)

    def forward(self, x: Tensor) -> Tensor:  # (N, C, H, W)
        if not x.requires_grad:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        # batch_norm would keep what the gradients of scale and bias need
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        bias = self.bias - self.running_mean * scale
        return x * scale.view(1, -1, 1, 1).to(x.dtype) + bias.view(1, -1, 1, 1).to(x.dtype)


# All have eps 1e-5. naiveSyncBN is Detectron2's own synchronised BN: it weights all ranks equally, SyncBN by their
# number of pixels. They differ only where ranks have batches of different size; here both weight by pixels.
_NORMS: dict[str, NormFactory] = {
    "BN": nn.BatchNorm2d,
    "SyncBN": SyncBatchNorm2d,
    "naiveSyncBN": SyncBatchNorm2d,
    "FrozenBN": FrozenBatchNorm2d,
}


def norm_factory(name: str, device: str) -> NormFactory:
    """Return the function that makes a norm layer for C channels.

    Args:
        name: BN, SyncBN, naiveSyncBN or FrozenBN.
        device: where the model will run: on a GPU a synchronised norm is torch's own, which refuses CPU tensors.
    """
    norm = _NORMS[name]
    return nn.SyncBatchNorm if norm is SyncBatchNorm2d and torch.device(device).type == "cuda" else norm


def optional_norm(name: str, device: str) -> NormFactory | None:
    """Return `norm_factory` of a name, or None for "": no norm."""
    return norm_factory(name, device) if name else None


class Conv2d(nn.Conv2d):
    """A convolution that keeps its norm layer as a child named `norm`, as Detectron2's does, and may end in a ReLU.

    It has a bias where it has no norm.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        norm: NormFactory | None = None,
        relu: bool = False,
        dilation: int = 1,
    ) -> None:
        padding = dilation * (kernel // 2)
        super().__init__(inputs, outputs, kernel, padding=padding, dilation=dilation, bias=norm is None)
        self.norm = norm(outputs) if norm is not None else None
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:  # (N, inputs, H, W) -> (N, outputs, H, W)
        x = super().forward(x)
        if self.norm is not None:
            x = self.norm(x)
        return x.relu() if self.relu else x


def frozen(norm: nn.Module) -> nn.Module:
    """Return the frozen batch norm that replaces a batch norm; any other module is returned as it is."""
    if isinstance(norm, (nn.BatchNorm2d, nn.SyncBatchNorm)):
        return FrozenBatchNorm2d(norm.num_features, counted=True, eps=norm.eps)
    return norm


def freeze(module: nn.Module) -> None:
    """Freeze the parameters of `module` and, in place, replace the batch norms below it by frozen ones."""
    module.requires_grad_(False)
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            setattr(parent, name, frozen(child))
