"""The jobs of a run as its cluster knows them: their states, and those whose ids were lost."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from .cluster import local, slurm
from .cluster.errors import SilentError
from .record import Record

Answer = TypeVar("Answer")

_PAUSE, _PAUSE_SLURM = 1.0, 10.0  # seconds between two looks at jobs; others ask SLURM, too
_SILENCE = 600  # seconds without an answer of SLURM that a command which waits bears: its controller may be restarted


def known_states(record: Record) -> dict[str, slurm.State]:
    """Return what the cluster says of the newest job of each stage, by job id.

    Raises:
        SilentError: SLURM does not answer.
    """
    if record.cluster == "slurm":
        newest = (entry.submissions[-1] for entry in record.entries.values() if entry.submissions)
        return slurm.job_states({submission.job: submission.token for submission in newest if submission.job})
    return local.job_states(local_jobs(record))


def live_states(record: Record) -> dict[str, slurm.State]:
    """Return the newest jobs that run or wait in the queue, by job id."""
    return {job: state for job, state in known_states(record).items() if state.live}


def outlast_silence(ask: Callable[[], Answer]) -> Answer:
    """Return what `ask` returns. While SLURM does not answer it is asked again, up to ten minutes; one line says so.

    Raises:
        SilentError: it does not answer for longer.
    """
    began = None
    while True:
        try:
            answer = ask()
        except SilentError as error:
            if began is None:
                began = time.monotonic()
                print(f"warning: {error}: asking for up to {_SILENCE // 60} minutes", file=sys.stderr, flush=True)
            if time.monotonic() - began > _SILENCE:
                raise
            time.sleep(_PAUSE_SLURM)
        else:
            return answer


def local_jobs(record: Record) -> list[tuple[str, Path]]:
    """Return the ids of the newest jobs on this machine, with the folders that identify their processes."""
    return [
        (entry.job, record.logs(entry.stage).resolve())
        for entry in record.entries.values()
        if entry.job and entry.job.isdigit()
    ]


def pause(record: Record) -> float:
    """Return the seconds between two looks at jobs."""
    return _PAUSE_SLURM if record.cluster == "slurm" else _PAUSE


def adopt_lost_jobs(record: Record) -> None:
    """Find in the queue the jobs whose submitter died before it could note their ids; forget the others.

    A job that has no pickle, for submitit names it after the job's id when sbatch has answered, is cancelled: it would
    fail. The run's lock must be held.
    """
    lost = [(entry, s) for entry in record.entries.values() for s in entry.submissions if s.job is None]
    if not lost:
        return
    known = slurm.by_comment({s.token for _, s in lost}) if record.cluster == "slurm" else {}
    positions: dict[str, int] = {}  # of the next stage of an array
    for entry, submission in lost:
        position = positions.setdefault(submission.token, 0)
        positions[submission.token] += 1
        if record.cluster == "local":
            submission.job = local.find_job(record.logs(entry.stage).resolve())
            continue
        for job in known.get(submission.token, ()):
            if not (record.logs(entry.stage) / f"{job}_submitted.pkl").exists():
                slurm.cancel([job])
            elif job.partition("_")[2] in ("", str(position)):
                submission.job = job
    for entry in record.entries.values():
        entry.submissions = [submission for submission in entry.submissions if submission.job is not None]
    record.save()
