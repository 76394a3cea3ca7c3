"""A wait for one rank that may take hours: the other collectives give up after half an hour."""

import contextlib
import datetime
from collections.abc import Iterator
from typing import Any

import torch.distributed as dist

PATIENCE = datetime.timedelta(days=1)


@contextlib.contextmanager
def leave_together(patience: datetime.timedelta = PATIENCE) -> Iterator[None]:
    """A block that all ranks enter, and leave when the last has done what it does there, up to `patience`.

    No error may leave the block: the others would wait for its rank.
    """
    if not dist.is_initialized():
        yield
        return
    group: Any = dist.new_group(backend="gloo", timeout=patience)
    yield
    dist.barrier(group=group)
    dist.destroy_process_group(group)
