"""The end of an attempt on one rank: what the log calls it, and whether the job starts once more."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from pretrain.runtime.errors import TRY_AGAIN
from pretrain.runtime.hangs.watch import HUNG

from . import attempts, slurm
from .retries import Retries

AGAIN_HERE = 144  # exit code that submitit's local executor takes for "start the tasks once more"


@dataclass(frozen=True)
class Ending:
    """The end of an attempt's tool on one rank.

    Args:
        log: of the stage's attempts.
        job: its id.
        rank: of this task; rank 0 speaks for all.
        cluster: "slurm", "local" or "debug".
        code: of the tool: 0, TRY_AGAIN where it has saved, any other where it has failed.
        signals: names of those that came while it ran.
        folder: of the run, where it saves; None: it saves nothing.
        retries: what a job may have after failures.
        output: the file that this rank prints into, and its size before the attempt.
    """

    log: attempts.Log
    job: str
    rank: int
    cluster: str
    code: int
    signals: tuple[str, ...]
    folder: Path | None
    retries: Retries
    output: tuple[Path, int]

    @property
    def outcome(self) -> str:
        return {0: attempts.FINISHED, TRY_AGAIN: attempts.STOPPED, HUNG: attempts.HUNG}.get(self.code, attempts.FAILED)

    def conclude(self) -> None:
        """Log the end, and start the job once more where that helps. Returns where the tool has finished."""
        if self.outcome in attempts.FAILURES:
            self._fail()
        if self.outcome == attempts.STOPPED and self.rank:
            sys.exit(0)  # another code would end rank 0 before it has requeued the job
        if self.outcome == attempts.STOPPED:
            self._start_again()
        if self.rank == 0:
            self._tell(attempts.FINISHED)

    def _fail(self) -> NoReturn:
        more: dict[str, str | int | None] = {"blamed": attempts.blamed_rank(*self.output)}
        if self.outcome == attempts.HUNG and self.folder is not None:
            more["stacks"] = attempts.newest_stacks(self.folder)
        told = self._tell(self.outcome, **more)
        # On a disk that takes no log it would fail again, and nothing would count its attempts.
        again = told and self.retries.start_again(self.log, self.job, self.rank, self.cluster)
        if again and self.cluster == "local":
            sys.exit(AGAIN_HERE)
        sys.exit(self.code if self.code > 0 else 128 - self.code)

    def _start_again(self) -> NoReturn:
        """Start the job once more, unless somebody is ending it or it comes no further."""
        signal = self.signals[0] if self.signals else None
        if self.cluster == "slurm" and signal and self._stands_still():
            self._tell(attempts.NO_PROGRESS, signal=signal)
            print(f"no progress: {attempts.PATIENCE} attempts in a row were stopped at one position", file=sys.stderr)
        elif self.cluster == "slurm":
            fault = slurm.requeue(self.job)  # first: a disk that takes no log must not cost the run
            self._tell(attempts.STOPPED, signal=signal)
            if fault:
                self.log.add(event="not requeued", job=self.job, reason=fault)
                print(f"saved, but not requeued: {fault}", file=sys.stderr)
        else:
            self._tell(attempts.STOPPED, signal=signal)
            if self.cluster == "local" and "SIGTERM" not in self.signals:  # by which it is cancelled
                sys.exit(AGAIN_HERE)
        sys.exit(TRY_AGAIN)

    def _stands_still(self) -> bool:
        """Return whether this is one stop too many at a position."""
        now = {"event": "end", "rank": 0, "outcome": attempts.STOPPED, "signal": "", "position": self._position()}
        return attempts.standstill([*self.log.lines(self.job), now]) >= attempts.PATIENCE

    def _position(self) -> int | None:
        return None if self.folder is None else attempts.position(self.folder)

    def _tell(self, outcome: str, **more: str | int | None) -> bool:
        where = {"job": self.job, "rank": self.rank, "host": attempts.host()}
        return self.log.add(event="end", **where, code=self.code, position=self._position(), outcome=outcome, **more)
