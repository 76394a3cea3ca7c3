"""The loader of batches, and their way to the training device."""

from collections.abc import Callable, Iterator

import cv2
import torch
from torch import Tensor
from torch.profiler import record_function
from torch.utils.data import DataLoader, Sampler

from pretrain.data.augment.gpu import augment_batch
from pretrain.data.sampler import EpochSampler
from pretrain.data.two_views import Batch, TwoViews


class EpochLoader:
    """The batches of an epoch, made by worker processes that stay from one epoch to the next.

    Args:
        views: makes a Batch of each of the sampler's lists.
        sampler: this rank's share of each epoch.
        workers: number of processes; 0: this one.
        pin_memory: put batches where a GPU can copy them from without waiting.
    """

    def __init__(self, views: TwoViews, sampler: EpochSampler, workers: int, pin_memory: bool = False) -> None:
        self._order = _Order(sampler)
        self._loader: DataLoader[Batch] = DataLoader(
            views,
            batch_size=None,  # the dataset itself makes batches: of the sampler's lists
            sampler=self._order,
            num_workers=workers,
            pin_memory=pin_memory,
            persistent_workers=workers > 0,
            generator=torch.Generator(),  # each epoch draws a number; from the default one, a resumed run would miss it
            # A plain fork of a process with threads (torch's, gloo's) may deadlock, and Python 3.12 warns of it.
            multiprocessing_context="forkserver" if workers else None,
            worker_init_fn=_take_one_core if workers else None,
        )

    def batches(self, epoch: int, done: int = 0) -> Iterator[Batch]:
        """Return the batches of an epoch, except the first `done`; the iterator of an earlier call ends.

        `next` raises PretrainError where an image and all that could replace it are broken.
        """
        self._order.choose(epoch, done)
        return iter(self._loader)

    def close(self) -> None:
        """End the worker processes now, and not when the garbage collector comes to it."""
        iterator, self._loader._iterator = self._loader._iterator, None
        # torch has no public way; an iterator without workers has not even this one.
        shut_down = getattr(iterator, "_shutdown_workers", None)
        if shut_down:
            shut_down()


class _Order(Sampler[list[tuple[int, int]]]):
    """The lists of the chosen epoch. A DataLoader that keeps its workers iterates over one and the same sampler."""

    def __init__(self, sampler: EpochSampler) -> None:
        self._sampler, self._chosen = sampler, (0, 0)

    def choose(self, epoch: int, done: int) -> None:
        self._chosen = epoch, done

    def __len__(self) -> int:
        return len(self._sampler) - self._chosen[1]

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return self._sampler.batches(*self._chosen)


class DevicePrefetch:
    """The way of a batch to the training device, and the rest of its augmentation there.

    To a GPU it is copied on a stream of its own: the loop runs ahead of the GPU, so the copy of a batch is under way
    while the GPU still trains on the previous one.

    Args:
        device: where the encoders are.
        channels_last: lay the views out as (N, H, W, 3) in memory.
        augment: does the rest of the augmentation, as `augment_batch` does, or a compiled one.
    """

    def __init__(
        self,
        device: torch.device,
        channels_last: bool = False,
        augment: Callable[[Tensor, Tensor], Tensor] = augment_batch,
    ) -> None:
        self.device, self._augment = device, augment
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the query and the key views on the device, (N, 3, size, size) uint8 each."""
        made = (batch.query, batch.key)[: batch.draws.shape[1]]
        *crops, draws = self._copy(*made, batch.draws)
        with record_function("augment"):
            views = [self._view(crop, draws[:, side]) for side, crop in enumerate(crops)]
        return views[0], views[-1]

    def _view(self, crops: Tensor, draws: Tensor) -> Tensor:
        return self._augment(crops, draws).contiguous(memory_format=self.layout)

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
