"""The rules by which the numbers of a run follow from the number of its images: batch, rate, epochs, m and K.

Each is exact, so that a number can be checked by hand. On the 1.28 million images of ImageNet they give the published
recipe (arXiv 1911.05722 and 2003.04297). docs/guides/recipes.md says what speaks for each.
"""

from typing import NamedTuple

PUBLISHED_BATCH, PUBLISHED_LR, PUBLISHED_QUEUE, PUBLISHED_EPOCHS = 256, 0.03, 65536, 200
GROUP = 32  # images with BN statistics of their own, as on each of the 8 published GPUs
MOMENTA = (0.9, 0.99, 0.999)  # of the published ablation; 0.9999 is no better
FEWEST_IMAGES = 64  # a batch of 8, which has two BN groups of 4
FEW_IMAGES = 50_000  # of fewer, given weights are the better start


class Length(NamedTuple):
    """The length that a run needs: its updates, and how many times the steps that its key encoder averages over."""

    updates: int
    averages: int


# Given weights (arXiv 2103.12718) need fewer updates, and their key encoder has no random weights to leave behind.
FROM_RANDOM, FROM_GIVEN = Length(20_000, 50), Length(5_000, 5)


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
    """Return the epochs that give the updates of a length, rounded up to two digits; `at_least` where that is more."""
    needed = -(-length.updates // max(1, images // batch))
    digit = 10 ** max(0, len(str(needed)) - 2)
    return max(at_least, -(-needed // digit) * digit)


def momentum(updates: int, length: Length = FROM_RANDOM) -> float:
    """Return m: the largest of 0.9, 0.99 and 0.999 that averages over a small enough part of the updates, else 0.9."""
    short = [m for m in MOMENTA if averaged_steps(m) * length.averages <= updates]
    return max(short, default=MOMENTA[0])


def averaged_steps(m: float) -> float:
    """Return the steps over which the key encoder averages the query encoder."""
    return 1 / (1 - m) if m < 1 else float("inf")


def queue_size(images: int, batch: int, m: float = MOMENTA[-1]) -> int:
    """Return K: a power of two, at most 65,536, a quarter of the images, and the keys of the steps averaged over.

    In a queue of a quarter of the images 3 % of the queries find a key of their own image (`own_keys`). No key is older
    than the steps that the key encoder averages over.
    """
    return power_of_two(max(1, min(PUBLISHED_QUEUE, images / 4, round(batch * averaged_steps(m), 6))))


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
