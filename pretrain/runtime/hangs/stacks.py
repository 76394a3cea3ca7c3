"""The stacks of this process, and what NCCL's flight recorder knows of its collectives, in files."""

import contextlib
import faulthandler
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

STDERR = 2  # by its number: what has replaced sys.stderr may have none
COLLECTIVES = 2000  # that the flight recorder keeps
TRACE = "nccl_trace_rank_"  # names its files, which end in the rank
RECORDER = {  # by torch's name: its value and its older name, which torch still reads
    "TORCH_FR_BUFFER_SIZE": (str(COLLECTIVES), "TORCH_NCCL_TRACE_BUFFER_SIZE"),
    "TORCH_NCCL_DUMP_ON_TIMEOUT": ("1", ""),
    "TORCH_FR_DUMP_TEMP_FILE": ("{folder}/" + TRACE, "TORCH_NCCL_DEBUG_INFO_TEMP_FILE"),
    "NCCL_DEBUG": ("WARN", ""),
}


def record_collectives(folder: Path) -> None:
    """Let NCCL say what goes wrong, and torch record its collectives and write them when one times out.

    What the user has set stays. It must be called before processes meet; the processes that are started later have it.

    Args:
        folder: where torch writes, a file a rank.
    """
    for name, (value, older) in RECORDER.items():
        if not older or older not in os.environ:
            os.environ.setdefault(name, value.format(folder=folder.absolute()))


@contextlib.contextmanager
def on_request() -> Iterator[None]:
    """Print the stacks of this process on standard error for each SIGQUIT in the block, also from within C code."""
    faulthandler.register(signal.SIGQUIT, file=STDERR)
    try:
        yield
    finally:
        faulthandler.unregister(signal.SIGQUIT)


def write(path: Path, head: Sequence[str]) -> None:
    """Write the stacks of all threads below some lines. The file has its name once it is whole."""
    unfinished = path.with_suffix(".unfinished")
    with open(unfinished, "w") as file:
        file.write("\n".join(head) + "\n\n")
        file.flush()
        faulthandler.dump_traceback(file=file)
    unfinished.rename(path)


def print_all() -> None:
    """Print the stacks of all threads on standard error."""
    faulthandler.dump_traceback(file=STDERR)


def write_collectives(path: Path) -> None:
    """Write what the flight recorder has, as `torchfrtrace` reads it; nothing where NCCL was not used."""
    import torch.distributed as dist

    if not dist.is_initialized() or "nccl" not in dist.get_backend_config():
        return
    from torch._C import _distributed_c10d

    path.write_bytes(_distributed_c10d._dump_nccl_trace())  # type: ignore[attr-defined]
