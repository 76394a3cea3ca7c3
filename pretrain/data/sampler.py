"""The order of the images in an epoch: a pseudo-random permutation that is computed by position, cut into batches.

No list of n numbers is ever made, so the order of 10^9 images takes no memory.

A Feistel network (Luby and Rackoff, 1988) permutes the numbers of 2h bits; a number that lands at n or above is sent
through it again until it lands below (cycle walking: Black and Rogaway, "Ciphers with Arbitrary Finite Domains", CT-RSA
2002, section 4), which permutes range(n) itself. The round function is the finaliser of splitmix64 (Steele, Lea, Flood,
"Fast Splittable Pseudorandom Number Generators", OOPSLA 2014, figure 17). It is not a cipher: the order is to be
random, not secret. 2h bits are fewer than 4n numbers, so a number passes less than four times on average.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from pretrain.runtime import seeds
from pretrain.runtime.errors import PretrainError

ROUNDS = 8
SMALLEST_HALF = 4  # bits; with 2 the 24 orders of 4 numbers came unevenly (chi-square 57, 23 expected, 12,000 keys)

Words = npt.NDArray[np.uint64]


class Permutation:
    """One of the permutations of range(`size`), chosen by a 64-bit key; the same on every machine."""

    def __init__(self, size: int, key: int) -> None:
        """`key` is taken modulo 2^64; `size` goes up to 2^62."""
        if not 0 < size <= 1 << 62:
            raise ValueError(f"a permutation of {size} numbers; 1 to 2^62 are possible")
        self.size = size
        self._half = np.uint64(max(SMALLEST_HALF, ((size - 1).bit_length() + 1) // 2))
        self._mask = (np.uint64(1) << self._half) - np.uint64(1)
        self._keys = list(_round_keys(key))

    def __call__(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the numbers at the positions, (N,) in range(size) -> (N,) in range(size). Takes O(N) memory."""
        if positions.size and not 0 <= positions.min() <= positions.max() < self.size:
            raise IndexError(f"positions {positions.min()} to {positions.max()} of {self.size}")
        values = self._network(positions.astype(np.uint64))
        outside = np.flatnonzero(values >= self.size)
        while outside.size:
            values[outside] = self._network(values[outside])
            outside = outside[values[outside] >= self.size]
        return values.astype(np.int64)

    def _network(self, values: Words) -> Words:
        left, right = values >> self._half, values & self._mask
        for key in self._keys:
            left, right = right, left ^ (_mix(right + key) & self._mask)
        return left << self._half | right


def _round_keys(key: int) -> Iterator[np.uint64]:
    """Yield the first numbers of splitmix64 started at `key`."""
    for number in range(1, ROUNDS + 1):
        state = (key + number * 0x9E3779B97F4A7C15) % (1 << 64)
        yield _mix(np.array([state], dtype=np.uint64))[0]


def _mix(words: Words) -> Words:
    """Apply splitmix64's finaliser: every bit of a word affects every bit of the result. Overflow is intended."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


class EpochSampler:
    """One permutation of all images an epoch, cut into global batches, the tail dropped; rank r takes slice r of each.

    The batches are the same for any number of ranks. Memory does not grow with the number of images.

    Args:
        size: number of images.
        batch_size: images of a step, of all ranks together; a multiple of `world_size`.
        seed: of the run.
        rank, world_size: the process that asks, and how many there are.

    Raises PretrainError where there are fewer images than a batch has.
    """

    def __init__(self, size: int, batch_size: int, seed: int, rank: int = 0, world_size: int = 1) -> None:
        if size < batch_size:
            raise PretrainError(
                f"optim.batch_size: {batch_size} is more than the {size} images found; lower it or add images"
            )
        self.size, self.batch_size, self.seed = size, batch_size, seed
        self.rank, self.world_size = rank, world_size

    def __len__(self) -> int:
        """Return the number of batches of a whole epoch."""
        return self.size // self.batch_size

    def batches(self, epoch: int, done: int = 0) -> Iterator[list[tuple[int, int]]]:
        """Yield this rank's (epoch, index) of each batch of an epoch, except the first `done`."""
        order = Permutation(self.size, seeds.seed_of("order", self.seed, epoch))
        share = self.batch_size // self.world_size
        for number in range(done, len(self)):
            first = number * self.batch_size + self.rank * share
            yield [(epoch, index) for index in order(np.arange(first, first + share)).tolist()]
