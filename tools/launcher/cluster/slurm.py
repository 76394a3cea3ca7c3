"""The states of SLURM's jobs, and commands to it: squeue, sacct, scontrol, scancel. Nothing goes through a shell."""

import os
import re
import subprocess
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .errors import LaunchError, QueueLimitError, SilentError

LOST = "LOST"  # our word: by its accounting a job runs or waits, and the queue does not have it
# A job in another state, also in one of a later SLURM, runs or will run: it must not be submitted a second time.
_ENDED = {
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED"),
    *("REVOKED", "TIMEOUT", "UNKNOWN", LOST),
}
_HELD = {"REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT"}
# Options of SLURM's commands in a user's shell, which would hide jobs, or write times and columns otherwise.
_FILTERS = ("SQUEUE_", "SACCT_", "SCANCEL_", "SINFO_", "SLURM_TIME_")
PREFIX = "moco-"  # of our jobs' names and tokens
_TOKEN = re.compile(PREFIX + "[0-9a-f]{32}")
_NO_ANSWER = re.compile("Unable to contact slurm controller|Socket timed out|Zero Bytes were transmitted")
_LIMIT = re.compile(r"\b\w+Limit\b")  # as SLURM names it: AssocMaxSubmitJobLimit, QOSMaxWallDurationPerJobLimit
_NO_ROOM = re.compile(
    "Job violates accounting/QOS policy|Resource temporarily unavailable|too many jobs", re.IGNORECASE
)
_PATIENCE = 60  # seconds that one command may take
_TRIES, _PAUSE = 4, 5  # of a requeue; seconds


@dataclass(frozen=True)
class State:
    """A job as SLURM describes it: "RUNNING", why it waits, when its time is over, where it is, when it may start."""

    name: str
    reason: str = ""
    limit: str = ""  # time left until the limit, [DAYS-]HOURS:MINUTES:SECONDS
    node: str = ""  # one or several, "node[1-2]", once it has started
    starts: str = ""  # of a pending job as SLURM expects it, local time as in ISO 8601

    @property
    def live(self) -> bool:
        """Return whether the job runs or will run."""
        return self.name not in _ENDED

    @property
    def held(self) -> bool:
        """Return whether the job waits until somebody releases it."""
        return self.name in _HELD


def job_states(tokens: Mapping[str, str]) -> dict[str, State]:
    """Return the states of jobs, also of array tasks "12_3", as far as SLURM still knows them.

    Only the queue tells that a job runs or waits: after a controller's crash its accounting may say so for ever.

    Args:
        tokens: the comment that each was submitted with. A controller that was set up anew gives ids again: a job of
            somebody else under one of these is left out.
    """
    if not tokens:
        return {}
    listed = ",".join(sorted({job.split("_")[0] for job in tokens}))
    found = {}
    accounts = run("sacct", "-n", "-P", "-X", "-j", listed, "-o", "JobID,State,Comment,JobName")
    for job, state, comment, name in _rows(accounts.stdout, 4):  # none where there is no accounting
        if _is_ours(tokens.get(job), comment, name):
            found[job] = State(state.split()[0] if state else "UNKNOWN")  # "CANCELLED by 1000"
    found = {job: State(LOST) if state.live else state for job, state in found.items()}
    queue = _queue("-t", "all", "-j", listed, "-o", "%i|%T|%L|%N|%S|%r|%k|%j")
    for job, state, limit, node, starts, reason, comment, name in _rows(queue, 8):
        if _is_ours(tokens.get(job), comment, name):
            known_start = state == "PENDING" and starts not in ("", "N/A")
            found[job] = State(state, reason, limit, node, starts if known_start else "")
    return found


def _is_ours(token: str | None, comment: str, name: str) -> bool:
    """Return whether a job is the one that was submitted with a token; None: none was.

    Where a site writes comments of its own, and where accounting keeps none, its name tells.
    """
    if token is None or comment == token:
        return token is not None
    return name.startswith(PREFIX) and not _TOKEN.search(comment.replace(token, ""))


def by_comment(wanted: Collection[str]) -> dict[str, list[str]]:
    """Return, for each comment, the ids of this user's jobs in the queue that have it, those of an array in order."""
    found: dict[str, list[str]] = {}
    for job, comment in _rows(_queue("-t", "all", "-u", str(os.getuid()), "-o", "%i|%k"), 2):
        if comment in wanted:
            found.setdefault(comment, []).append(job)
    return {comment: sorted(ids, key=lambda job: int(job.split("_")[-1])) for comment, ids in found.items()}


def refusal(said: str) -> LaunchError:
    """Return the error for what sbatch has said when it took no job.

    A limit of the jobs in the queue passes; one of a job's own time or size does not. SLURM names the limit, but for
    old ones.
    """
    if _NO_ANSWER.search(said):
        return SilentError(f"sbatch: {said.strip()}: SLURM does not answer; try again")
    limits = _LIMIT.findall(said)
    if any("Submit" in limit for limit in limits) or (not limits and _NO_ROOM.search(said)):
        last = (said.strip().splitlines() or [""])[-1].removeprefix("sbatch: error: ")
        return QueueLimitError(", ".join(limits) or last)
    return LaunchError(f"sbatch refused the job: {said}")


def cancel(jobs: Iterable[str]) -> None:
    """End jobs, or take them out of the queue.

    Raises:
        LaunchError: SLURM refuses, and they still run.
    """
    wanted = sorted(set(jobs))
    done = run("scancel", *wanted) if wanted else None
    if (
        done
        and done.returncode
        and any(State(name).live for name in _queue("-j", ",".join(wanted), "-o", "%T").split())
    ):
        raise LaunchError(f"scancel: {done.stderr.strip() or done.returncode}")


def requeue(job: str) -> str | None:
    """Start a job once more, from within it while it runs. Returns why that failed, or None.

    Not where it is being ended, by scancel, by its time limit or by an administrator's requeue: it would come back to
    life, or wait twice.
    """
    fault = ""
    for _ in range(_TRIES):  # the controller may be busy, or changing places
        try:
            state = _queue("-j", job, "-o", "%T").split()
        except LaunchError as error:
            fault = str(error)
        else:
            if state != ["RUNNING"]:
                return f"SLURM is ending the job ({', '.join(state) or 'not in the queue'})"
            done = run("scontrol", "requeue", job)
            if done.returncode == 0:
                return None
            fault = done.stderr.strip() or f"scontrol ended with {done.returncode}"
        time.sleep(_PAUSE)
    return fault


def hosts(listed: str) -> list[str]:
    """Return the nodes of SLURM's list, such as "gpu[07-09],login1"."""
    return run("scontrol", "show", "hostnames", listed).stdout.split() if listed else []


def without(job: str, nodes: Collection[str], submission: Path) -> str | None:
    """Return the nodes that a job has been told to avoid, and some more, as a list for `exclude`.

    None where the job could not run without them.

    Args:
        job: its id.
        nodes: those to add.
        submission: the file that it was submitted with.
    """
    told = re.search(r"ExcNodeList=(\S+)", run("scontrol", "show", "job", "-o", job).stdout)
    before = [told[1]] if told and told[1] != "(null)" else []
    listed = ",".join([*before, *nodes])
    tried = run("sbatch", "--test-only", f"--exclude={listed}", str(submission))
    return listed if tried.returncode == 0 else None


def exclude(job: str, nodes: str) -> None:
    """Have a job that waits, such as one just requeued, avoid nodes and no others."""
    run("scontrol", "update", f"jobid={job}", f"ExcNodeList={nodes}")


def _queue(*options: str) -> str:
    """Return what squeue prints; nothing for jobs that it has forgotten.

    Raises:
        SilentError: SLURM does not answer. A job must not be taken for gone because of that.
    """
    done = run("squeue", "-h", "-r", *options)
    if done.returncode and "Invalid job id" not in done.stderr:
        raise SilentError(f"squeue: {done.stderr.strip() or done.returncode}: SLURM does not answer; try again")
    return done.stdout


def _rows(printed: str, columns: int) -> list[list[str]]:
    """Return the rows of a table with "|" between its columns, without what the comment of a stranger breaks."""
    rows = [line.split("|", columns - 1) for line in printed.splitlines()]
    return [row for row in rows if len(row) == columns]


def run(*command: str, text: str | None = None) -> "subprocess.CompletedProcess[str]":
    """Run a command of SLURM's without the options that a user's shell has for it; one that cannot be run has failed.

    Args:
        text: its input.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_FILTERS)}
    try:
        return subprocess.run(
            command, input=text, capture_output=True, text=True, errors="replace", timeout=_PATIENCE, env=environment
        )
    except (OSError, subprocess.TimeoutExpired) as error:  # a job must not die of a controller that is slow to answer
        return subprocess.CompletedProcess(command, 1, "", str(error))
