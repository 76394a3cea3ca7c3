"""The work after an iteration of fine-tuning: BN statistics, checkpoint, test; and the state that a stop leaves."""

from collections.abc import Callable
from typing import Any

from pretrain.runtime.errors import StorageError, UserError
from pretrain.runtime.periodic_work import PeriodicWork, Work, every
from pretrain.runtime.signals import Stopped
from transfer.engines.common.checkpoint_files import FINAL, STOPPED, file_name
from transfer.engines.common.checkpoints import Checkpoints
from transfer.errors import TransferError

_AGAIN = "the same command with --auto-resume"
_RESUMED = f"{_AGAIN} continues from the last good checkpoint"
STATISTICS, CHECKPOINT, TEST = "statistics", "checkpoint", "test"  # in this order: what is tested was saved before


class AfterIteration:
    """The position of a fine-tuning run, and what follows its iterations. Every rank calls it at the same points.

    Args:
        cfg: SOLVER.MAX_ITER and the periods of tests and checkpoints.
        checkpoints: saves the run.
        update_statistics: computes BN statistics anew for the weights (PreciseBN), before each test; None: no need.
        test: scores the model and writes its scores. Both get the number of iterations done.
    """

    def __init__(
        self,
        cfg: Any,
        checkpoints: Checkpoints,
        update_statistics: Callable[[int], None] | None,
        test: Callable[[int], None],
    ) -> None:
        self.last, self.checkpoint_period = cfg.SOLVER.MAX_ITER, cfg.SOLVER.CHECKPOINT_PERIOD
        self.checkpoints = checkpoints
        test_is_due = every(cfg.TEST.EVAL_PERIOD, self.last)
        works = [
            Work(CHECKPOINT, every(self.checkpoint_period, self.last), self._save),
            Work(TEST, test_is_due, lambda done, _: test(done)),
        ]
        if update_statistics:
            works.insert(0, Work(STATISTICS, test_is_due, lambda done, _: update_statistics(done)))
        self._work = PeriodicWork(works)
        self._saved: tuple[int, list[str]] = (0, [])
        self._first = 0  # iterations done before this attempt
        self._within_step = False

    @property
    def done(self) -> int:
        """The number of iterations done."""
        return self._work.done

    @property
    def pending(self) -> list[str]:
        """The names of the work still due after the last iteration."""
        return self._work.pending

    def is_due(self, done: int) -> bool:
        """Return whether any work is due after `done` iterations."""
        return self._work.is_due(done)

    def resume(self) -> None:
        """Return to the state in which the run was last saved."""
        self._work.done, self._work.pending = self.checkpoints.load()
        self._saved, self._first = (self.done, self.pending), self.done

    def begin_step(self) -> None:
        """Mark that the state is changing: until `advance` it is none that could be saved."""
        self._within_step = True

    def advance(self) -> None:
        """Count one more iteration, and do what is due after it."""
        self._within_step = False
        self._work.advance()

    def run_pending(self) -> None:
        """Do what is still due after the last iteration of a resumed run."""
        self._work.run_pending()

    def stopped(self) -> Stopped:
        """Save the run as it stands, unless it is saved already. Returns what to raise."""
        self._save_stopped()
        if not self.done:
            return Stopped("before the first iteration, nothing to save")
        return Stopped(f"after iteration {self.done} of {self.last}, saved")

    def interrupted(self, error: UserError) -> UserError:
        """Save the run as it stands, where an error that every rank has met allows it. Returns what to raise.

        An attempt that has done nothing will do no more when it is started again: an outage then needs a person.
        """
        gained = self.done > self._first
        kind = type(error) if gained or not isinstance(error, StorageError) else TransferError
        if self._within_step or not self.done:
            return kind(str(error))
        try:
            self._save_stopped()
        except UserError as second:
            reason = "" if str(second) == str(error) else f" ({second})"
            return kind(f"{error}\nThe run could not be saved after iteration {self.done}{reason}: {_RESUMED} before")
        if self.done == self.last and CHECKPOINT not in self.pending:
            return kind(
                f"{error}\nThe training is finished and saved ({FINAL}), only its test is left: once the image or the "
                f"storage is repaired, {_AGAIN} does it. Other data are scored in another OUTPUT_DIR, by --eval-only "
                f"MODEL.WEIGHTS {self.checkpoints.folder / FINAL}"
            )
        return kind(
            f"{error}\nThe run is saved after iteration {self.done} of {self.last}: once the image or the storage is "
            f"repaired, {_AGAIN} continues it there; with other annotations it is another run, in another OUTPUT_DIR"
        )

    def _save_stopped(self) -> None:
        if (self.done, self.pending) != self._saved:
            self.checkpoints.save(STOPPED, self.done, self.pending)
            self._saved = (self.done, self.pending)

    def _save(self, done: int, later: list[str]) -> None:
        if self.checkpoint_period > 0 and done % self.checkpoint_period == 0:
            # A run that is killed before its final checkpoint is there saves both again.
            still = [CHECKPOINT, *later] if done == self.last else later
            self.checkpoints.save(file_name(done - 1), done, still)
        if done == self.last:
            self.checkpoints.save(FINAL, done, later)
        self._saved = (done, later)
