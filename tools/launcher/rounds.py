"""The rounds over a run: submit what is ready, look again, until all is submitted or, if asked, has ended."""

import shlex
import sys
import time
from pathlib import Path

from rich.console import Console

from . import reconcile, status
from .job_states import pause
from .reconcile import Reconciled
from .record import Record, load_record, locked


def run_rounds(folder: Path, wait: bool) -> None:
    """Submit what is neither finished nor live; wait for it if asked, and to start what must wait on this machine.

    Exits with code 1 where it waited and a stage has not finished.
    """
    with locked(folder):
        allowed = reconcile.begin_round(folder)
        record = load_record(folder)
    wait = wait or record.cluster == "debug"  # there a job has ended when it has been submitted
    first = True
    good: tuple[str, ...] = ()
    while True:
        with locked(folder):
            found = reconcile.submit_ready(folder, allowed, local_limit(record), good)
        record, good = load_record(folder), found.finished
        if first:
            _print_first(found, record)
        elif found.submitted:
            print(f"submitted   {', '.join(found.submitted)}", flush=True)
        first = False
        unfinished = bool(found.submitted or found.live)
        if not unfinished or not (wait or (record.cluster != "slurm" and found.waiting)):
            break
        time.sleep(pause(record))
    if wait or (record.cluster != "slurm" and not unfinished):
        _end(record)


def local_limit(record: Record) -> int:
    """Return the number of stages that may run at a time on this machine: 1 with GPUs, or all would use the same."""
    if any(entry.stage.resources.gpus for entry in record.entries.values()):
        return 1
    return max((entry.stage.parallel or 1 for entry in record.entries.values()), default=1)


def _print_first(found: Reconciled, record: Record) -> None:
    if found.finished:
        print(f"finished    {', '.join(found.finished)}")
    if found.live:
        print(f"on its way  {', '.join(found.live)}")
    for name in found.submitted:
        print(f"submitted   {name}: job {record.entries[name].job}")
    if not found.submitted and not found.live:
        print("nothing to submit" + ("" if found.waiting else ": all has finished"))
    elif record.cluster != "debug":
        print(f"see         python tools/launch.py status {shlex.quote(str(record.folder))}", flush=True)


def _end(record: Record) -> None:
    """Print the table; exit with code 1 where something has not finished."""
    shown = status.stage_rows(record)
    status.print_rows(record, shown, Console())
    bad = [row for row in shown if row.state != status.FINISHED]
    for row in bad:
        print(f"error: {row.stage}: {row.state} {row.note}", file=sys.stderr)
    if bad:
        sys.exit(1)
