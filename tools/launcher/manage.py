"""The actions of tools/launch.py that only look at a run or end it: status, logs, cancel. They import no torch."""

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from . import status
from .cluster import local, logs, slurm
from .cluster.errors import LaunchError
from .job_states import adopt_lost_jobs, live_states, local_jobs, pause
from .record import load_record, locked
from .view.table import print_rows


def show_status(arguments: argparse.Namespace, _: Sequence[str]) -> None:
    """Print a row for each stage."""
    record = load_record(enter(arguments.folder))
    shown = status.stage_rows(record)
    if arguments.json:
        print(json.dumps([dataclasses.asdict(row) for row in shown], indent=1))
    else:
        print_rows(str(record.folder), record.cluster, shown, Console())


def show_logs(arguments: argparse.Namespace, _: Sequence[str]) -> None:
    """Print the output of a stage's newest job, and follow it if asked."""
    record = load_record(enter(arguments.folder))
    entry = record.entries.get(arguments.stage)
    if entry is None:
        raise LaunchError(f"{arguments.stage}: no such stage; there are {', '.join(record.entries)}")
    if entry.job is None:
        raise LaunchError(f"{arguments.stage}: has not been submitted yet")
    file = logs.log_path(record.logs(entry.stage), entry.job, arguments.rank)

    def may_grow() -> bool:
        try:
            return arguments.follow and entry.job in live_states(record)
        except LaunchError:  # SLURM does not answer: that has not ended the job
            return True

    if not file.exists() and not may_grow():
        raise LaunchError(f"{file}: is not there: the job has not begun, or has no rank {arguments.rank}")
    try:
        logs.print_log(file, may_grow, pause(record))
    except KeyboardInterrupt:
        sys.exit(0)


def cancel(arguments: argparse.Namespace, _: Sequence[str]) -> None:
    """End all jobs of a run; stages that were not submitted yet count as cancelled, too."""
    ended = cancel_jobs(enter(arguments.folder))
    for name, job in ended.items():
        print(f"cancelled   {name}: job {job}")
    if not ended:
        print("nothing to cancel: no job of this run is on its way")


def cancel_jobs(folder: Path) -> dict[str, str]:
    """End all jobs of a run; return them by stage.

    Raises:
        LaunchError: SLURM refuses, or does not answer.
    """
    with locked(folder):
        record = load_record(folder)
        adopt_lost_jobs(record)
        live = live_states(record)
        ended = {name: entry.job for name, entry in record.entries.items() if entry.job and entry.job in live}
        if record.cluster == "slurm":
            slurm.cancel(ended.values())
        else:
            local.cancel(local_jobs(record))
        record.cancels += 1
        for entry in record.entries.values():
            entry.cancelled = entry.cancelled or entry.job is None or entry.job in live or bool(entry.limit)
            entry.limit = ""
        record.save()
    # Without the lock, for it may take long.
    for job in local.end(local_jobs(record)) if record.cluster == "local" else ():
        print(f"killed      job {job}: it had not ended {local.GRACE:.0f} s after it was asked to", file=sys.stderr)
    return ended


def enter(folder: Path) -> Path:
    """Change to the folder where a run was begun, for its paths are relative to that; return its own from there.

    Raises:
        LaunchError: there is no run, or where it was begun is gone.
    """
    begun = Path(load_record(folder).cwd)  # or a message that there is no run; the lock would make the folder
    if begun == Path.cwd():
        return folder
    folder = folder.resolve()
    try:
        os.chdir(begun)
    except OSError as error:
        raise LaunchError(f"{folder}: was begun in {begun}, to which its paths lead: {error.strerror}") from error
    return folder
