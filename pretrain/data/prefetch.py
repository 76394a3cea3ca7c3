"""Batches of the loader, made ready on the training device."""

import torch
from torch import Tensor
from torch.profiler import record_function

from pretrain.data.augment.gpu import augment_batch
from pretrain.data.two_views import Batch


class Feed:
    """Copies views to the device and does there what is left to do to them.

    To a GPU they are copied on a stream of their own: the loop runs ahead of the GPU, so the copy of a batch is under
    way while the GPU still trains on the one before.

    Args:
        device: where the encoders are.
        channels_last: whether the views are to be laid out as (N, H, W, 3).
    """

    def __init__(self, device: torch.device, channels_last: bool = False) -> None:
        self.device = device
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Query and key views, (N, 3, size, size) uint8 each."""
        query, key, draws = self._copy(batch.query, batch.key, batch.draws)
        with record_function("augment"):
            return self._view(query, draws[:, 0]), self._view(key, draws[:, 1])

    def _view(self, crops: Tensor, draws: Tensor) -> Tensor:
        return augment_batch(crops, draws).contiguous(memory_format=self.layout)

    def _copy(self, *tensors: Tensor) -> list[Tensor]:
        with torch.cuda.stream(self._stream):  # None: nothing
            copies = [tensor.to(self.device, non_blocking=True) for tensor in tensors]
        if self._stream is not None:
            training = torch.cuda.current_stream(self.device)
            training.wait_stream(self._stream)
            for copy in copies:
                copy.record_stream(training)  # its memory is not to be given away before training has read it
        return copies
