"""The two published schedules."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretrain.engine import schedule


def test_v1_drops_at_120_and_160() -> None:
    rates = [0.03 * schedule.step(epoch, (120, 160)) for epoch in (0, 119, 120, 159, 160, 199)]
    assert rates == pytest.approx([0.03, 0.03, 0.003, 0.003, 0.0003, 0.0003])


def test_v2_is_half_a_cosine_stepped_by_epoch() -> None:
    assert schedule.cosine(0, 200) == 1
    assert schedule.cosine(100, 200) == pytest.approx(0.5)
    # lr * 0.5 * (1 + cos(pi e / E)), from the published code
    assert 0.03 * schedule.cosine(150, 200) == pytest.approx(0.03 * 0.5 * (1 + math.cos(math.pi * 0.75)))


@given(st.integers(1, 1000), st.data())
def test_both_fall_and_stay_between_0_and_1(epochs: int, data: st.DataObject) -> None:
    milestones = sorted(data.draw(st.sets(st.integers(0, epochs))))
    for factors in (
        [schedule.cosine(epoch, epochs) for epoch in range(epochs)],
        [schedule.step(epoch, milestones) for epoch in range(epochs)],
    ):
        assert all(0 < factor <= 1 for factor in factors)
        assert factors == sorted(factors, reverse=True)
