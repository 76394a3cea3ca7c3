"""The states of SLURM's jobs, and commands to it: squeue, sacct, scontrol, scancel. Nothing goes through a shell."""

import subprocess
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from .errors import LaunchError

LIVE = {
    *("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD"),
    *("RESIZING", "SIGNALING", "SPECIAL_EXIT", "STAGE_OUT", "STOPPED"),
}
_PATIENCE = 60  # seconds that one command may take
_TRIES, _PAUSE = 4, 5  # of a requeue; seconds


@dataclass(frozen=True)
class State:
    """A job as SLURM describes it: "RUNNING", why it waits, and when its time is over."""

    name: str
    reason: str = ""
    limit: str = ""  # time left until the limit, [DAYS-]HOURS:MINUTES:SECONDS

    @property
    def live(self) -> bool:
        """Return whether the job runs or will run."""
        return self.name in LIVE


def job_states(jobs: Iterable[str]) -> dict[str, State]:
    """Return the states of jobs, also of array tasks "12_3", as far as SLURM still knows them."""
    wanted = set(jobs)
    if not wanted:
        return {}
    listed = ",".join(sorted({job.split("_")[0] for job in wanted}))
    found = {}
    accounts = _run("sacct", "-n", "-P", "-X", "-j", listed, "-o", "JobID,State")  # fails where there is no accounting
    for line in accounts.stdout.splitlines():
        job, _, state = line.partition("|")
        found[job] = State(state.split()[0] if state else "UNKNOWN")  # "CANCELLED by 1000"
    for line in _queue("-t", "all", "-j", listed, "-o", "%i|%T|%L|%r"):
        job, state, limit, reason = line.split("|", 3)
        found[job] = State(state, reason, limit)
    return {job: state for job, state in found.items() if job in wanted}


def by_comment(wanted: Collection[str]) -> dict[str, list[str]]:
    """Return, for each comment, the ids of the jobs in the queue that have it, those of an array in order."""
    found: dict[str, list[str]] = {}
    for line in _queue("-t", "all", "-o", "%i|%k"):
        job, _, comment = line.partition("|")
        if comment in wanted:
            found.setdefault(comment, []).append(job)
    return {comment: sorted(ids, key=lambda job: int(job.split("_")[-1])) for comment, ids in found.items()}


def cancel(jobs: Iterable[str]) -> None:
    """End jobs, or take them out of the queue.

    Raises:
        LaunchError: SLURM refuses, and they still run.
    """
    wanted = sorted(set(jobs))
    done = _run("scancel", *wanted) if wanted else None
    if done and done.returncode and any(state.live for state in job_states(wanted).values()):
        raise LaunchError(f"scancel: {done.stderr.strip() or done.returncode}")


def requeue(job: str) -> str | None:
    """Start a job once more, from within it while it runs. Returns why that failed, or None.

    Not where it is being ended, by scancel, by its time limit or by an administrator's requeue: it would come back to
    life, or wait twice.
    """
    fault = ""
    for _ in range(_TRIES):  # the controller may be busy, or changing places
        try:
            state = _queue("-j", job, "-o", "%T")
        except LaunchError as error:
            fault = str(error)
        else:
            if state != ["RUNNING"]:
                return f"SLURM is ending the job ({', '.join(state) or 'not in the queue'})"
            done = _run("scontrol", "requeue", job)
            if done.returncode == 0:
                return None
            fault = done.stderr.strip() or f"scontrol ended with {done.returncode}"
        time.sleep(_PAUSE)
    return fault


def _queue(*options: str) -> list[str]:
    """Return squeue's lines; none for jobs that it has forgotten.

    Raises:
        LaunchError: SLURM does not answer. A job must not be taken for gone because of that.
    """
    done = _run("squeue", "-h", "-r", *options)
    if done.returncode and "Invalid job id" not in done.stderr:
        raise LaunchError(f"squeue: {done.stderr.strip() or done.returncode}: SLURM does not answer; try again")
    return done.stdout.splitlines()


def _run(*command: str) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=_PATIENCE)
    except (OSError, subprocess.TimeoutExpired) as error:  # a job must not die of a controller that is slow to answer
        return subprocess.CompletedProcess(command, 1, "", str(error))
