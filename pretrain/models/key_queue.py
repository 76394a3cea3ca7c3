"""The dictionary of MoCo: a first-in first-out queue of keys, held as a ring buffer."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class KeyQueue(nn.Module):
    """The last `size` keys. Any size goes with any batch: the ring just wraps.

    Attributes:
        keys: (size, dim), rows of length 1; random ones before the first `size` keys have come.
        pointer: the row that the next key overwrites, 0 <= pointer < size.
    """

    keys: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("keys", F.normalize(torch.randn(size, dim), dim=1))
        self.pointer = 0

    @torch.no_grad()
    def enqueue(self, keys: Tensor) -> None:
        """Overwrite the oldest keys with (N, dim) new ones, the last row newest; of more than `size` the last stay."""
        size = len(self.keys)
        start = (self.pointer + max(0, len(keys) - size)) % size
        keys = keys[-size:]
        before_end = min(len(keys), size - start)
        self.keys[start : start + before_end] = keys[:before_end]
        self.keys[: len(keys) - before_end] = keys[before_end:]
        self.pointer = (start + len(keys)) % size
