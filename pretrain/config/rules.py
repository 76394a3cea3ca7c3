"""The rules by which the numbers of a run follow from the number of its images: batch, rate, epochs, m and K.

Each is exact, so that a number can be checked by hand. On the 1.28 million images of ImageNet they give the published
recipe (arXiv 1911.05722 and 2003.04297). docs/guides/recipes.md says what speaks for each.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

PUBLISHED_BATCH, PUBLISHED_LR, PUBLISHED_QUEUE, PUBLISHED_EPOCHS = 256, 0.03, 65536, 200
GROUP = 32  # images with BN statistics of their own, as on each of the 8 published GPUs
MOMENTA = (0.9, 0.99, 0.999)  # of the published ablation; 0.9999 is no better
FEWEST_IMAGES = 64  # a batch of 8, which has two BN groups of 4
FEW_IMAGES = 50_000  # of fewer, given weights are the better start


class Length(NamedTuple):
    """The length of a run: its updates at least, and how many times the key encoder's memory they are at least."""

    updates: int
    memories: int


# From given weights (arXiv 2103.12718) fewer updates do, and the key encoder has no random weights to leave behind.
FROM_RANDOM, FROM_GIVEN = Length(20_000, 50), Length(5_000, 5)


class Choice(NamedTuple):
    """The value of a setting and what it was chosen for."""

    key: str
    value: Any
    reason: str


class Choices:
    """The values of settings, chosen one after the other; what the user has given stays, and later rules follow it."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.given, self.made = given, list[Choice]()

    def add(self, key: str, rule: Callable[[], Any], reason: str) -> Any:
        """Choose a value by a rule, unless it is given. Returns the value."""
        is_given = key in self.given
        value = self.given[key] if is_given else rule()
        self.made.append(Choice(key, value, "given" if is_given else reason))
        return value


def power_of_two(limit: float) -> int:
    """Return the largest power of two that is not above `limit`, 1 or more."""
    return 1 << (int(limit).bit_length() - 1)


def batch_size(images: int) -> int:
    """Return the images of a step: 256 as published, fewer where an epoch would have fewer than 8 steps."""
    return power_of_two(min(PUBLISHED_BATCH, images / 8))


def learning_rate(batch: int) -> float:
    """Return the rate by the linear rule: 0.03 for a batch of 256."""
    return PUBLISHED_LR * batch / PUBLISHED_BATCH


def epochs(images: int, batch: int, at_least: int = PUBLISHED_EPOCHS, length: Length = FROM_RANDOM) -> int:
    """Return the epochs that give 20,000 updates, rounded up to two digits; `at_least` where that is more."""
    needed = -(-length.updates // max(1, images // batch))
    digit = 10 ** max(0, len(str(needed)) - 2)
    return max(at_least, -(-needed // digit) * digit)


def momentum(updates: int, length: Length = FROM_RANDOM) -> float:
    """Return m: the largest of 0.9, 0.99 and 0.999 whose memory, 1 / (1 - m) steps, is a fiftieth of the run's."""
    short = [m for m in MOMENTA if memory(m) * length.memories <= updates]
    return max(short, default=MOMENTA[0])


def memory(m: float) -> float:
    """Return the steps over which the key encoder averages the query encoder."""
    return 1 / (1 - m) if m < 1 else float("inf")


def queue_size(images: int, batch: int, m: float = MOMENTA[-1]) -> int:
    """Return K: a power of two, at most 65,536, a quarter of the images, and the keys that the key encoder remembers.

    Of the queue of a quarter of the images 3 % of the queries find their own image in it (`own_keys`). No key is older,
    in steps, than the key encoder's memory.
    """
    return power_of_two(max(1, min(PUBLISHED_QUEUE, images / 4, round(batch * memory(m), 6))))


def own_keys(images: int, keys: int) -> float:
    """Return how many keys of its own image a query finds in the queue, on average, after the first epochs.

    An image comes once in each epoch, at a place drawn at random; the queue holds the last `keys` images. The time
    since its last epoch's place is below K for a share (K / n)^2 / 2 of the images, and for K >= n it is K / n keys.
    """
    share = keys / images
    return share**2 / 2 if share < 1 else share - 0.5


def bn_groups(part: int) -> int:
    """Return the BN groups of a part of the batch: of 32 images as published, but two at least, for shuffle-BN.

    They are equal, so that of 100 images they are 2 of 50; an odd number of images stays one group.
    """
    return next((groups for groups in range(max(2, part // GROUP), 1, -1) if part % groups == 0), 1)
