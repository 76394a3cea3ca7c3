"""The permutation that is computed where it is asked for, and the sampler that cuts it into batches."""

import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretrain.data.sampler import EpochSampler, Permutation
from pretrain.runtime.errors import PretrainError

KEYS = st.integers(-(2**63), 2**64 - 1)


@given(st.integers(1, 5000), KEYS)
def test_every_number_stands_at_one_position(size: int, key: int) -> None:
    assert np.array_equal(np.sort(Permutation(size, key)(np.arange(size))), np.arange(size))


@given(st.integers(2, 2**62), KEYS, st.data())
def test_slices_agree_and_no_number_comes_twice(size: int, key: int, data: st.DataObject) -> None:
    order = Permutation(size, key)
    first = data.draw(st.integers(0, size - 1))
    positions = np.arange(first, min(first + 300, size))
    values = order(positions)
    assert ((values >= 0) & (values < size)).all()
    assert len(set(values.tolist())) == len(positions)
    cut = data.draw(st.integers(0, len(positions)))
    assert np.array_equal(np.concatenate([order(positions[:cut]), order(positions[cut:])]), values)
    assert order(positions[::-1])[-1] == values[0]


@given(KEYS, KEYS)
def test_another_key_is_another_order(key: int, other: int) -> None:
    same = (key - other) % 2**64 == 0
    orders = [Permutation(1000, k)(np.arange(1000)) for k in (key, other)]
    assert np.array_equal(*orders) == same


def test_the_order_is_the_same_on_every_machine() -> None:
    assert Permutation(10, 0)(np.arange(10)).tolist() == [6, 1, 8, 5, 2, 3, 0, 4, 7, 9]
    assert Permutation(10**9, 1)(np.array([0, 10**9 - 1])).tolist() == [994357380, 586860376]


@pytest.mark.parametrize("size", [3, 16, 100])
def test_every_number_lands_everywhere_equally_often(size: int) -> None:
    trials = 20 * size
    landed = np.zeros((size, size))
    for key in range(trials):
        landed[np.arange(size), Permutation(size, key)(np.arange(size))] += 1
    chi_square = ((landed - trials / size) ** 2 / (trials / size)).sum()
    freedom = (size - 1) ** 2
    assert abs(chi_square - freedom) < 5 * np.sqrt(2 * freedom)


def test_neighbours_have_nothing_to_do_with_each_other() -> None:
    size, keys = 20_000, 20
    correlations, adjacent, fixed, halves = [], 0, 0, []
    for key in range(keys):
        order = Permutation(size, key)(np.arange(size))
        correlations.append(np.corrcoef(order[:-1], order[1:])[0, 1])
        adjacent += int((np.abs(np.diff(order)) == 1).sum())
        fixed += int((order == np.arange(size)).sum())
        halves.append(order[: size // 2].mean())
    # Of a uniform permutation: correlation 0 +- 1/sqrt(n); 2 adjacent pairs and 1 fixed point, Poisson; half's mean.
    assert abs(np.mean(correlations)) < 5 / np.sqrt(size * keys)
    assert abs(adjacent - 2 * keys) < 5 * np.sqrt(2 * keys)
    assert abs(fixed - keys) < 5 * np.sqrt(keys)
    deviation = size / np.sqrt(12) * np.sqrt(1 / size)  # of the mean of a half, drawn without replacement
    assert abs(np.mean(halves) - (size - 1) / 2) < 5 * deviation / np.sqrt(keys)
    assert 0.4 < np.std(halves) / deviation < 1.8


def test_positions_outside_are_refused() -> None:
    with pytest.raises(IndexError, match="positions 0 to 10 of 10"):
        Permutation(10, 0)(np.arange(11))
    with pytest.raises(ValueError, match="a permutation of 0 numbers"):
        Permutation(0, 0)


@pytest.mark.parametrize(("world", "size", "batch"), [(1, 11, 4), (2, 11, 4), (4, 32, 8)])
def test_ranks_share_out_the_global_batches_of_one_process(world: int, size: int, batch: int) -> None:
    alone = EpochSampler(size, batch, seed=3)
    ranks = [EpochSampler(size, batch, 3, rank, world) for rank in range(world)]
    orders = []
    for epoch in (0, 1):
        shares = (sampler.batches(epoch) for sampler in ranks)
        together = [[*itertools.chain(*rows)] for rows in zip(*shares, strict=True)]  # rank r has slice r
        assert together == list(alone.batches(epoch))
        assert len(together) == len(alone) == size // batch
        indices = [index for rows in together for at, index in rows if at == epoch]
        assert len(indices) == len(set(indices)) == size // batch * batch  # each at most once, the tail dropped
        assert set(indices) <= set(range(size))
        orders.append(indices)
    assert orders[0] != orders[1]


@pytest.mark.parametrize(("before", "after"), [(1, 4), (4, 2), (2, 2)])
def test_an_epoch_resumes_on_another_number_of_ranks(before: int, after: int) -> None:
    size, batch, done = 103, 8, 5
    whole = [index for rows in EpochSampler(size, batch, seed=7).batches(0) for _, index in rows]

    def indices(world: int, skip: int) -> list[list[int]]:
        ranks = [EpochSampler(size, batch, 7, rank, world) for rank in range(world)]
        assert {len(sampler) for sampler in ranks} == {size // batch}
        shares = (sampler.batches(0, skip) for sampler in ranks)
        return [[index for _, index in itertools.chain(*rows)] for rows in zip(*shares, strict=True)]

    joined = indices(before, 0)[:done] + indices(after, done)
    assert [*itertools.chain(*joined)] == whole
    assert len(set(whole)) == len(whole) == size // batch * batch


def test_the_order_of_a_billion_images_takes_no_memory() -> None:
    tracemalloc.start()
    try:
        sampler = EpochSampler(10**9, 256, seed=1)
        batches = [*itertools.islice(sampler.batches(0, 2_000_000), 20)]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(batches) == 20
    assert len({index for rows in batches for _, index in rows}) == 20 * 256
    assert peak < 2_000_000  # bytes


def test_too_few_images_for_a_batch_are_refused() -> None:
    with pytest.raises(PretrainError, match=r"optim.batch_size: 16 is more than the 15 images"):
        EpochSampler(15, 16, 0)
