"""pretrain/runtime/periodic_work.py: what is due when, in which order, and what an interruption leaves."""

import pytest

from pretrain.runtime.periodic_work import PeriodicWork, Work, every


def test_work_is_done_at_its_period_and_at_the_end() -> None:
    log: list[tuple[str, int]] = []
    works = [
        Work("save", every(2, last=5), lambda done, _: log.append(("save", done))),
        Work("test", every(0, last=5), lambda done, _: log.append(("test", done))),
    ]
    run = PeriodicWork(works)
    for _ in range(5):
        run.advance()
    assert log == [("save", 2), ("save", 4), ("save", 5), ("test", 5)]
    assert (run.done, run.pending) == (5, [])


def test_work_knows_what_is_due_after_it() -> None:
    seen = []
    always = every(1, last=9)
    PeriodicWork([Work(name, always, lambda _, later: seen.append(later)) for name in "abc"]).advance()
    assert seen == [["b", "c"], ["c"], []]


def test_interrupted_work_stays_pending() -> None:
    log = []

    def interrupted(done: int, _: list[str]) -> None:
        raise KeyboardInterrupt

    always = every(1, last=9)
    first = PeriodicWork([Work("a", always, interrupted), Work("b", always, interrupted)])
    with pytest.raises(KeyboardInterrupt):
        first.advance()
    assert (first.done, first.pending) == (1, ["a", "b"])
    works = [Work(name, always, lambda done, _: log.append(done)) for name in "ab"]
    resumed = PeriodicWork(works, first.done, first.pending)
    resumed.run_pending()
    assert log == [1, 1]
    assert resumed.pending == []
