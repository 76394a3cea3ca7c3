"""The states of a run's jobs, as its cluster knows them."""

from pathlib import Path

from .cluster import local, slurm
from .record import Record


def known_states(record: Record) -> dict[str, slurm.State]:
    """Return what the cluster says of the newest job of each stage, by job id.

    Raises:
        LaunchError: SLURM does not answer.
    """
    if record.cluster == "slurm":
        return slurm.states(entry.job for entry in record.entries.values() if entry.job)
    return local.states(local_jobs(record))


def live_states(record: Record) -> dict[str, slurm.State]:
    """Return the newest jobs that run or wait in the queue, by job id."""
    return {job: state for job, state in known_states(record).items() if state.live}


def local_jobs(record: Record) -> list[tuple[str, Path]]:
    """Return the ids of the newest jobs on this machine, with the folders that identify their processes."""
    return [
        (entry.job, record.logs(entry.stage).resolve())
        for entry in record.entries.values()
        if entry.job and entry.job.isdigit()
    ]
