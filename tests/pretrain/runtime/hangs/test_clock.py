"""pretrain/runtime/hangs/clock.py: which waiting is a hang."""

import time

import pytest

from pretrain.runtime.hangs import clock
from pretrain.runtime.hangs.clock import FIRST, Clock
from pretrain.runtime.periodic_work import PeriodicWork, Work, every


class Time:
    """A clock that the test sets."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        patch.setattr(time, "monotonic", lambda: self.now)

    def passes(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def hours(monkeypatch: pytest.MonkeyPatch) -> Time:
    return Time(monkeypatch)


def test_three_times_the_longest_step_is_a_hang(hours: Time) -> None:
    noted = Clock(60)
    noted.expect("step 1")
    for took in (500, 10, 40, 20):  # the first, which starts everything, does not count
        hours.passes(took)
        noted.came_further("a step")
    hours.passes(119)
    assert not noted.overdue()
    hours.passes(2)
    assert noted.overdue()
    assert not noted.overdue(times=2)


def test_short_steps_have_the_least_time(hours: Time) -> None:
    noted = Clock(60)
    for _ in range(5):
        noted.came_further("a step")
        hours.passes(1)
    hours.passes(58)
    assert not noted.overdue()
    hours.passes(2)
    assert noted.overdue()


def test_the_first_step_has_time_to_start(hours: Time) -> None:
    noted = Clock(60)
    hours.passes(1e6)
    assert not noted.overdue()  # images are looked for, ranks meet
    noted.expect("step 1")
    hours.passes(FIRST - 1)
    assert not noted.overdue()
    hours.passes(2)
    assert noted.overdue()


def test_a_stopped_process_has_not_waited(hours: Time) -> None:
    noted = Clock(60)
    for _ in range(3):
        noted.came_further("a step")
        hours.passes(1)
    hours.passes(10_000)
    noted.forgive(10_000)
    assert not noted.overdue()
    hours.passes(5_000)
    noted.came_further("a step")  # before anybody has forgiven it
    hours.passes(61)
    assert noted.overdue()


def test_work_between_steps_takes_its_time(hours: Time) -> None:
    """Neither a checkpoint nor a test without a sign of life is a hang, and no step was so long."""
    seen = []

    def save(*_: object) -> None:
        hours.passes(5000)
        seen.append(noted.overdue())

    noted = Clock(60)
    work = PeriodicWork([Work("checkpoint", every(2, 0), save)])
    with clock.started(noted):
        for _ in range(6):
            hours.passes(10)
            work.advance()
            assert not noted.overdue()
    assert seen == [False] * 3
    hours.passes(61)
    assert noted.overdue()


def test_an_evaluation_is_watched_image_by_image(hours: Time) -> None:
    noted = Clock(60)
    noted.came_further("step 1")
    with noted.within("evaluation"):
        noted.expect("the first image")
        for image in range(1000):
            hours.passes(50)
            assert not noted.overdue()
            noted.came_further(f"image {image}")
        noted.wait_for_others()
        hours.passes(3 * 50_000 - 1)
        assert not noted.overdue()  # another rank may have larger images
        hours.passes(2)
        assert noted.overdue()
    assert not noted.overdue()
