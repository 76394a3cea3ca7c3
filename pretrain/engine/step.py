"""One optimiser step, the same for every method: forward and backward by parts, a check, then the update."""

import contextlib
import math
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.profiler import record_function

from pretrain.engine import finite_check
from pretrain.models.method import Method, Output
from pretrain.runtime import distributed

PRECISIONS = {"fp32": None, "tf32": None, "bf16": torch.bfloat16, "fp16": torch.float16}  # the dtype of autocast


class Result(NamedTuple):
    """The numbers of a step on this rank, before its update."""

    loss: Tensor  # () mean over the rank's queries
    accuracy: Tensor  # () share of the queries nearest to their positive
    gradient_norm: Tensor  # () of the gradient averaged over all ranks, before clipping
    query: Tensor  # (N, dim)
    positive: Tensor  # (N, dim)


class _Unread(NamedTuple):
    """The numbers of a step that are yet to be checked for being finite."""

    norm: finite_check.Reading
    losses: Tensor  # (parts,)
    own: list[Tensor]  # sums () of this rank's own gradients


class TrainingStep:
    """The step of Algorithm 1: momentum update, forward, backward, check, update of the weights, enqueue.

    Weights, their momentum average, queue and loss are fp32 in every precision; autocast covers the two encoders.

    Args:
        model: a method, such as `moco.MoCo`, on its device.
        optimizer: over the model's parameters.
        precision: `fp32`, `tf32` (see arithmetic.py), `bf16` or `fp16` (with loss scaling).
        clip_norm: largest norm of the gradient over all parameters; 0: any.
        delay: how many steps later a step's check is read. Default: 1 on a GPU, so that it never waits for the host;
            0 on a CPU and with fp16, whose loss scaling reads its numbers at once.
    """

    def __init__(
        self,
        model: Method,
        optimizer: Optimizer,
        precision: str = "fp32",
        clip_norm: float = 0.0,
        delay: int | None = None,
    ) -> None:
        self.model, self.optimizer, self.clip_norm = model, optimizer, clip_norm
        self.dtype = PRECISIONS[precision]
        self.parameters = [p for p in model.parameters() if p.requires_grad]  # each walk over a ResNet-50 takes 0.8 ms
        self.device_type = self.parameters[0].device.type
        self.ranks = distributed.data_parallel(model)
        self.scaler = torch.amp.GradScaler(self.device_type, enabled=precision == "fp16")
        self.delay = delay if delay is not None else int(self.device_type == "cuda" and precision != "fp16")
        self._own = finite_check.OwnGradients(self.ranks)
        self._unread: deque[_Unread] = deque()  # oldest first

    def __call__(
        self,
        query_images: Tensor,
        key_images: Tensor,
        indices: Tensor,
        generators: Sequence[torch.Generator | None] = (None,),
    ) -> Result:
        """Train on this rank's share of the global batch.

        Args:
            query_images: (N, 3, H, W), one view of N images; uint8, or normalised floats.
            key_images: (N, 3, H, W), another view of the same images, likewise.
            indices: (N,) int64 on the CPU, which images they are.
            generators: on the CPU, in the same state on every rank; the batch is split into as many equal parts, whose
                gradients are added up for one update, one momentum update and one enqueueing.

        Raises NotFiniteError on every rank where a loss or gradient of any rank is not finite: without a delay before
        weights, optimiser state or queue change, else so many steps later. With fp16 an overflow of the scaled
        gradients leaves the update out, until the scale has come down to 1.
        """
        with record_function("momentum update"):
            self.model.before_step()
        self.optimizer.zero_grad()
        outputs = self._forward_backward((query_images, key_images, indices), generators)
        with record_function("check"):
            result = self._result(outputs)
            self._read(self.delay)
        with record_function("optimiser"):
            self._update(result.gradient_norm)
        with record_function("enqueue"):
            self.model.after_step(_global_order([output.keys for output in outputs]), indices)
        return result

    def flush_checks(self) -> None:
        """Read the checks of all steps so far, before anything of them is kept. Raises NotFiniteError."""
        self._read(0)

    def _forward_backward(
        self, batch: tuple[Tensor, Tensor, Tensor], generators: Sequence[torch.Generator | None]
    ) -> list[Output]:
        """Pass the batch part by part; the gradients add up to that of the mean loss."""
        outputs = []
        parts = zip(*(tensor.chunk(len(generators)) for tensor in batch), generators, strict=True)
        for number, part in enumerate(parts, start=1):
            with self._averaging(number == len(generators)):
                with torch.autocast(self.device_type, self.dtype, enabled=self.dtype is not None):
                    output: Output = self.ranks(*part)
                with record_function("backward"):
                    finite_check.backward(self.scaler.scale(output.loss), 1 / len(generators))
            outputs.append(output._replace(loss=output.loss.detach()))
        return outputs

    def _averaging(self, last: bool) -> contextlib.AbstractContextManager[None]:
        """Return a block in which gradients are averaged over the ranks only in the last part."""
        if last or not isinstance(self.ranks, DistributedDataParallel):
            return contextlib.nullcontext()
        return self.ranks.no_sync()

    def _result(self, outputs: Sequence[Output]) -> Result:
        self.scaler.unscale_(self.optimizer)
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        losses = torch.stack([output.loss for output in outputs])
        self._unread.append(_Unread(finite_check.Reading(norm), losses, self._own.take() or [norm]))
        return Result(
            losses.mean(),
            torch.stack([output.accuracy for output in outputs]).mean(),
            norm,
            torch.cat([output.query for output in outputs]),
            torch.cat([output.positive for output in outputs]),
        )

    def _read(self, left: int) -> None:
        """Read the checks of the steps but for the newest `left`."""
        while len(self._unread) > left:
            norm, losses, own = self._unread.popleft()
            if math.isfinite(norm.item()):  # on every rank or on none: the gradients are averaged
                continue
            overflow = self.scaler.is_enabled() and self.scaler.get_scale() > 1
            if not overflow or any(distributed.all_gather_object(not losses.isfinite().all())):
                raise finite_check.NotFiniteError(finite_check.nonfinite_ranks(losses.mean(), own), len(self._unread))

    def _update(self, norm: Tensor) -> None:
        if self.clip_norm:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, self.clip_norm, norm)
        self.scaler.step(self.optimizer)  # leaves the update out where the scaled gradients overflowed
        self.scaler.update()


def _global_order(parts: Sequence[Tensor]) -> Tensor:
    """Put keys of parts, (world size x n, dim) each, in the order of the global batch: rank by rank, part by part."""
    by_rank = [part.unflatten(0, (distributed.world_size(), -1)) for part in parts]  # (world size, n, dim) each
    return torch.cat(by_rank, dim=1).flatten(0, 1)
