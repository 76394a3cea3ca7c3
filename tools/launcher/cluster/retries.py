"""Another attempt after a failure that may heal: without the node that failed, and only while the run gets on."""

import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from . import attempts, slurm
from .block_signals import STOPPING

_OTHERS = 60  # seconds that a rank which has failed leaves it to rank 0 to start the job once more
_LAST_WORDS = 20  # seconds in which the other ranks log their ends, after a failure: their tools notice it
_LOOK = 0.5


@dataclass(frozen=True)
class Retries:
    """The further attempts that a job may have after failures.

    Args:
        most: how many.
        tasks: of the job.
        submission: the file that was handed to sbatch.
    """

    most: int
    tasks: int
    submission: Path

    def start_again(self, log: attempts.Log, job: str, rank: int, cluster: str) -> bool:
        """Start a job of which a rank has failed once more, where that may help. Returns whether it will be.

        On this machine the caller ends with a code for that; rank 0 alone decides.
        """
        if not self.most or cluster == "debug" or (rank and cluster == "local"):
            return False
        # A Mac has neither SLURM nor sigtimedwait.
        if rank and sys.platform == "linux" and signal.sigtimedwait(STOPPING, _OTHERS) is not None:
            return False  # by rank 0, which has had SLURM end this attempt
        self._await_ends(log, job)
        lines = log.lines(job)
        number = attempts.retries_used(lines) + 1
        if number > self.most or not attempts.may_heal(lines):
            return False
        failed = attempts.newest(lines)
        told = {"job": job, "number": number, "of": self.most, "position": attempts.furthest_failure(failed)}
        if cluster == "local":
            return log.add(event="retry", **told)
        nodes = attempts.culprits(failed, slurm.hosts(os.environ.get("SLURM_JOB_NODELIST", "")))
        excluded = slurm.without(job, nodes, self.submission) if nodes else None  # before: the job is killed soon after
        fault = slurm.requeue(job)
        if fault:
            log.add(event="not retried", job=job, reason=fault)
            print(f"failed, and not started once more: {fault}", file=sys.stderr)
            return False
        if excluded:
            slurm.exclude(job, excluded)
        return log.add(event="retry", **told, without=nodes if excluded else [])

    def _await_ends(self, log: attempts.Log, job: str) -> None:
        """Wait for the ends of the other ranks; a node that is lost logs none."""
        deadline = time.monotonic() + _LAST_WORDS
        while time.monotonic() < deadline:
            ended = {line["rank"] for line in attempts.newest(log.lines(job)) if line["event"] == "end"}
            if len(ended) >= self.tasks:
                return
            time.sleep(_LOOK)
