"""The random numbers of a rank: torch's generators, kept over what must not use them up, saved and put back."""

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor


def states() -> dict[str, Tensor]:
    """Where this rank's generators stand: of the CPU, and of its GPU where it uses one."""
    found = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_initialized():
        found["cuda"] = torch.cuda.get_rng_state()
    return found


def restore(found: Mapping[str, Tensor]) -> None:
    """Go on where `states` was called."""
    torch.set_rng_state(found["cpu"])
    if "cuda" in found and torch.cuda.is_initialized():
        torch.cuda.set_rng_state(found["cuda"])


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """What the block draws is as if it had not been drawn."""
    before = states()
    try:
        yield
    finally:
        restore(before)
