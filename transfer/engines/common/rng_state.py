"""The RNG state of a rank: saved, restored, and left unchanged by a test in between."""

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor


def get_rng_state() -> dict[str, Tensor]:
    """Return the states of this rank's generators: of the CPU, and of its GPU where it uses one."""
    found = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_initialized():
        found["cuda"] = torch.cuda.get_rng_state()
    return found


def set_rng_state(found: Mapping[str, Tensor]) -> None:
    """Set the generators to what `get_rng_state` returned."""
    torch.set_rng_state(found["cpu"])
    if "cuda" in found and torch.cuda.is_initialized():
        torch.cuda.set_rng_state(found["cuda"])


@contextlib.contextmanager
def preserve_rng_state() -> Iterator[None]:
    """Restore the generators after the block, as if it had drawn no numbers."""
    before = get_rng_state()
    try:
        yield
    finally:
        set_rng_state(before)
