"""The loader of batches, and their way to the training device."""

import cv2
import torch
from torch import Tensor
from torch.profiler import record_function
from torch.utils.data import DataLoader

from pretrain.data.augment.gpu import augment_batch
from pretrain.data.sampler import EpochSampler
from pretrain.data.two_views import Batch, TwoViews


def make_loader(dataset: TwoViews, sampler: EpochSampler, workers: int, pin_memory: bool = False) -> DataLoader:
    """Make the loader of the sampler's batches; its `workers` processes (0: this one) end with `close_loader`."""
    return DataLoader(
        dataset,
        batch_size=None,  # the dataset itself makes batches: of the sampler's lists
        sampler=sampler,
        num_workers=workers,
        pin_memory=pin_memory,
        persistent_workers=workers > 0,
        generator=torch.Generator(),  # each epoch draws a number; from the default one, a resumed run would miss it
        # A plain fork of a process with threads (torch's, gloo's) may deadlock, and Python 3.12 warns of it.
        multiprocessing_context="forkserver" if workers else None,
        worker_init_fn=_take_one_core if workers else None,
    )


def close_loader(loader: DataLoader) -> None:
    """End the loader's processes now, and not when the garbage collector comes to it."""
    iterator, loader._iterator = loader._iterator, None
    shut_down = getattr(iterator, "_shutdown_workers", None)  # torch has no public way; without workers there is none
    if shut_down:
        shut_down()


class DevicePrefetch:
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


def _take_one_core(_: int) -> None:
    cv2.setNumThreads(0)  # torch's are set to one by its loader
