"""The course of a run: what is due after which iteration, in which order, and where a request to stop leaves it."""

from collections.abc import Callable
from typing import Any

from pretrain.runtime.signals import Stopped
from transfer.engines.common.checkpoints import FINAL, STOPPED, Checkpoints, file_name

STATISTICS, CHECKPOINT, TEST = "statistics", "checkpoint", "test"  # in this order: what is tested was saved before

Work = Callable[[int], None]  # gets the number of iterations done


class Course:
    """Where a run stands, and the work between its iterations. Every rank calls all of it at the same points.

    Args:
        cfg: SOLVER.MAX_ITER and the periods of tests and checkpoints.
        checkpoints: where the run is saved.
        statistics: gives the norms those of the weights (PreciseBN), before each test; None: nothing to do.
        test: scores the model and writes down its scores.

    Attributes:
        done: iterations done.
        pending: the work still due after the last of them.
    """

    def __init__(self, cfg: Any, checkpoints: Checkpoints, statistics: Work | None, test: Work) -> None:
        self.last = cfg.SOLVER.MAX_ITER
        self.periods = {CHECKPOINT: cfg.SOLVER.CHECKPOINT_PERIOD, TEST: cfg.TEST.EVAL_PERIOD}
        if statistics:
            self.periods = {STATISTICS: cfg.TEST.EVAL_PERIOD, **self.periods}
        self.checkpoints, self.statistics, self.test = checkpoints, statistics, test
        self.done = 0
        self.pending: list[str] = []
        self._saved: tuple[int, list[str]] = (0, [])

    def resume(self) -> None:
        """Go back to where the run was last saved."""
        self.done, self.pending = self.checkpoints.load()
        self._saved = (self.done, self.pending)

    def advance(self) -> None:
        """One more iteration is done; do what is due after it."""
        self.done += 1
        self.pending = [work for work, period in self.periods.items() if is_due(self.done, period, self.last)]
        self.settle()

    def settle(self) -> None:
        """Do what is still due after the last iteration."""
        while self.pending:
            work, *later = self.pending
            if work == STATISTICS and self.statistics:
                self.statistics(self.done)
            elif work == CHECKPOINT:
                self._save(later)
            elif work == TEST:
                self.test(self.done)
            self.pending = later

    def stopped(self) -> Stopped:
        """Save the run as it stands, unless that is done. Returns what to raise."""
        if (self.done, self.pending) != self._saved:
            self.checkpoints.save(STOPPED, self.done, self.pending)
        if not self.done:
            return Stopped("before the first iteration, nothing to save")
        return Stopped(f"after iteration {self.done} of {self.last}, saved")

    def _save(self, later: list[str]) -> None:
        if self.periods[CHECKPOINT] > 0 and self.done % self.periods[CHECKPOINT] == 0:
            # Killed before the final one is there, too, a run saves both again.
            still = [CHECKPOINT, *later] if self.done == self.last else later
            self.checkpoints.save(file_name(self.done - 1), self.done, still)
        if self.done == self.last:
            self.checkpoints.save(FINAL, self.done, later)
        self._saved = (self.done, later)


def is_due(done: int, period: int, last: int) -> bool:
    """Whether what happens each `period` iterations (0: never) and at the end happens after `done` of them."""
    return done == last or (period > 0 and done % period == 0)
