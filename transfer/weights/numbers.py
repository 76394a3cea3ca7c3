"""The numbers of pretrained tensors: those that no trained network has, which a comparison of features may not show."""

from collections.abc import Mapping

import torch
from torch import Tensor

from transfer.errors import TransferError
from transfer.weights import locate

_NUMBERS = ("weight", "bias", "running_mean", "running_var")
_HALF_MAX = torch.finfo(torch.float16).max
_DEAD = 1e-3  # the mean of a channel that is always 0, as BN keeps it


def check_numbers(state: Mapping[str, Tensor], where: str) -> None:
    """Refuse tensors with numbers that no trained network has.

    Args:
        state: tensors by name; of a batch norm they end in running_mean, running_var and num_batches_tracked.
        where: the file, for the message.

    Raises:
        TransferError: names every tensor at fault and says what of it is.
    """
    unreadable = locate.list_unreadable(state)
    if unreadable:
        raise TransferError(f"{where}: tensors without numbers that can be copied:{locate.list_faults(unreadable)}")
    faults = [f"{name}: {fault}" for name, tensor in state.items() if (fault := _fault(name, tensor, state))]
    if faults:
        raise TransferError(
            f"{where}: {len(faults)} of {len(state)} tensors hold numbers that no trained network has; take the file "
            "in single precision if half precision has overflowed, or a checkpoint from before the training "
            f"diverged:{locate.list_faults(faults)}"
        )


def _fault(name: str, tensor: Tensor, state: Mapping[str, Tensor]) -> str | None:
    if not tensor.is_floating_point():
        if name.rpartition(".")[2] not in _NUMBERS:  # a counter
            return None
        return f"of type {str(tensor.dtype).removeprefix('torch.')}, where floating-point numbers are expected"
    counts = {"NaN": int(tensor.isnan().sum()), "infinite": int(tensor.isinf().sum())}
    if tensor.dtype == torch.float16:
        counts["at the end of float16's range"] = int((tensor.abs() == _HALF_MAX).sum())
    if name.endswith("running_var"):
        counts["negative, of a variance"] = int((tensor < 0).sum())
        mean = state.get(name.removesuffix("running_var") + "running_mean")
        if mean is not None and mean.shape == tensor.shape:  # a channel that is always 0 has neither
            counts["zero, a variance with a mean"] = int(((tensor == 0) & (mean.float().abs() > _DEAD)).sum())
        if tensor.numel() > 1 and not tensor.any():
            counts["zero, all variances of the layer"] = tensor.numel()
    if name.endswith("weight") and tensor.dim() == 4 and tensor.numel() > 1:
        first = tensor.reshape(-1)[0]
        counts[f"equal to {first:g}, all of a convolution"] = tensor.numel() * bool((tensor == first).all())
    found = [f"{count} of {tensor.numel()} {what}" for what, count in counts.items() if count]
    return ", ".join(found) or None
