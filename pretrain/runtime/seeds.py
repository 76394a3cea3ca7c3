"""The randomness as a pure function of position: (seed, epoch, sample index) names its own stream of numbers.

No draw depends on what was drawn before it, so a restart, another number of workers or of processes sees the same ones.
"""

import hashlib

import torch


def seed_of(*position: int | str) -> int:
    """Return a 64-bit seed for a position such as ("views", seed, epoch, index), stable across versions."""
    digest = hashlib.blake2b(repr(position).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def generator(*position: int | str) -> torch.Generator:
    """Return a CPU generator that starts at `seed_of(*position)`."""
    return torch.Generator().manual_seed(seed_of(*position))
