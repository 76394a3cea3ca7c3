"""The learning rate as a pure function of progress: what it is multiplied by in an epoch. Both published forms."""

import math
from collections.abc import Sequence


def step(epoch: int, milestones: Sequence[int], gamma: float = 0.1) -> float:
    """`gamma` to the power of the milestones reached (MoCo v1: epochs 120 and 160 of 200). Epochs count from 0."""
    return gamma ** sum(epoch >= milestone for milestone in milestones)


def cosine(epoch: int, epochs: int) -> float:
    """Half a cosine from 1 towards 0, constant within an epoch, no warmup (MoCo v2). Epochs count from 0."""
    return 0.5 * (1 + math.cos(math.pi * epoch / epochs))
