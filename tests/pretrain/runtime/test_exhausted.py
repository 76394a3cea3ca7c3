"""The messages for the ends of a machine's resources, from the errors that torch really raises."""

import os
import signal

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from pretrain.runtime.errors import user_message

WORKERS = "data.workers, DATALOADER.NUM_WORKERS or --workers"


class Ending(Dataset[int]):
    """A data set whose reading ends the worker or raises what the system would."""

    def __init__(self, end: object) -> None:
        self.end = end

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> int:
        if isinstance(self.end, signal.Signals):
            os.kill(os.getpid(), self.end)
        if isinstance(self.end, Exception):
            raise self.end
        return len(torch.empty(10**15))


def error_of(end: object) -> Exception:
    with pytest.raises(Exception, match=r".") as caught:
        list(DataLoader(Ending(end), num_workers=1))
    return caught.value


@pytest.mark.parametrize(
    ("end", "what"),
    [
        (signal.SIGKILL, "a loader worker was killed, which the system does when memory is used up"),
        (signal.SIGBUS, "the shared memory of this machine, /dev/shm, is used up"),
        (None, "the memory of this machine is used up"),
        (MemoryError(), "the memory of this machine is used up"),
        (RuntimeError("unable to allocate shared memory(shm) for file </torch_1_2>"), "the shared memory of this mach"),
    ],
)
def test_the_end_of_a_loader_worker_is_explained(end: object, what: str) -> None:
    message = user_message(error_of(end)) or ""
    assert message.startswith(what)
    assert WORKERS in message
    assert "\n" not in message


def test_the_end_of_memory_is_explained() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(10**15)
    assert (user_message(caught.value) or "").startswith("the memory of this machine is used up (")


def test_the_end_of_a_gpus_memory_names_settings() -> None:
    text = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 10.75 GiB of which 1 GiB is"
    message = user_message(torch.OutOfMemoryError(text)) or ""
    assert message.startswith("the memory of the GPU is used up (CUDA out of memory. Tried to allocate 2.00 GiB.")
    for setting in ("optim.accumulate", "--scale-to", "--batch-size"):
        assert setting in message


def test_too_many_open_files_are_explained() -> None:
    assert "ulimit -n" in (user_message(OSError(24, "Too many open files")) or "")


@pytest.mark.parametrize("bug", [RuntimeError("shapes differ"), ValueError("x")])
def test_a_bug_is_none_of_them(bug: Exception) -> None:
    assert user_message(bug) is None
