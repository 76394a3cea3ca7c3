"""The rounds over a run: submit what is ready, look again, until all is submitted or, if asked, has ended."""

import functools
import json
import math
import shlex
import sys
import time
from pathlib import Path

from rich.console import Console

from pretrain.runtime.errors import listed
from pretrain.runtime.invocation.naming import as_called
from transfer.report import NUMBERS

from . import reconcile, status
from .cluster import attempts, logs
from .following import Follower
from .job_states import known_states, live_states, outlast_silence
from .manage import cancel_jobs
from .reconcile import Reconciled
from .record import Record, load_record, locked
from .stages.pipeline import Measured
from .view.row import FAILED, FINISHED, Row
from .view.table import print_rows

_INTERRUPTED = 130
_TAIL = 15  # lines of a failed stage's log that are shown
_ROOM = 60.0  # seconds between two looks for room in a queue that is full
_LOOK = 0.2  # seconds between two looks at jobs that are stopping


def run_rounds(folder: Path, wait: bool, measured: Measured | None = None, note: str | None = None) -> None:
    """Submit what is neither finished nor live; wait for it if asked, and where stages wait for others on this machine.

    Ctrl-C while it waits stops the jobs of this machine, which save; those of a cluster go on. Exits with code 1 where
    it waited and a stage has not finished.

    Args:
        measured: the minutes that the run took elsewhere.
        note: what is printed at the end of a run that has finished.
    """
    with locked(folder):
        allowed = reconcile.begin_round(folder)
        record = load_record(folder)
    # On debug a job has ended when it has been submitted; with several stages this command starts the next ones.
    wait = wait or record.cluster == "debug" or (record.cluster == "local" and len(record.entries) > 1)
    try:
        with Follower(record, measured) as follower:
            record = _submit_until_done(record, allowed, wait, follower)
    except KeyboardInterrupt:
        if not wait or record.cluster != "local":
            raise
        _stop(folder)
    if wait:
        _end(record, follower, note)


def _submit_until_done(record: Record, allowed: reconcile.Round, wait: bool, follower: Follower) -> Record:
    """Submit what is ready, whenever a job has ended, until none is left; return the run's record as it is then."""

    def submit(known_good: tuple[str, ...]) -> Reconciled:
        with locked(record.folder):
            return reconcile.submit_ready(record.folder, allowed, known_good)

    first, good = True, ()  # type: tuple[bool, tuple[str, ...]]
    while True:
        submit_now = functools.partial(submit, good)
        found = outlast_silence(submit_now) if wait else submit_now()
        record, good = load_record(record.folder), found.finished
        if first:
            _print_first(found, record, wait)
        else:
            follower.tell(record)
            if found.submitted:
                print(f"submitted   {', '.join(found.submitted)}", flush=True)
        first = False
        if not wait or not (found.submitted or found.live or found.limited):
            return record
        follower.until_one_ends(record, found.live + found.submitted, _ROOM if found.limited else math.inf)


def _print_first(found: Reconciled, record: Record, wait: bool) -> None:
    if found.finished:
        print(f"finished    {', '.join(found.finished)}")
    if found.live:
        print(f"on its way  {', '.join(found.live)}")
    for name in found.submitted:
        print(f"submitted   {name}: job {record.entries[name].job}")
    if found.limited:
        limit = record.entries[found.limited[0]].limit
        print(f"queue limit {listed(found.limited, shown=2)}: SLURM takes no more jobs for now ({limit});")
        print("            " + ("submitted when there is room" if wait else "the same command goes on; or add --wait"))
    elif not found.submitted and not found.live:
        print("nothing to submit" + ("" if found.waiting else ": all has finished"))
        return
    if record.cluster != "debug":
        print(as_called(f"see         python tools/launch.py status {shlex.quote(str(record.folder))}"))
    if record.cluster == "local" and wait:
        print("            Ctrl-C stops the jobs, which save; the same command continues")
    sys.stdout.flush()


def _stop(folder: Path) -> None:
    """End all jobs and wait until they have saved. Does not return; another Ctrl-C stops the wait."""
    print("stopping    the jobs save first", flush=True)
    cancel_jobs(folder)
    record = load_record(folder)
    while live_states(record):
        time.sleep(_LOOK)
    print("stopped     the same command continues", flush=True)
    sys.exit(_INTERRUPTED)


def _end(record: Record, follower: Follower, note: str | None) -> None:
    """Print the table and what came out; exit with code 1 where something has not finished."""
    shown = status.stage_rows(record, outlast_silence(lambda: known_states(record)))
    print_rows(str(record.folder), record.cluster, shown, Console())
    bad = [row for row in shown if row.state != FINISHED]
    for row in bad:
        print(f"error: {row.stage}: {row.state} {row.note}{_log_end(record, row)}", file=sys.stderr)
    if bad:
        sys.exit(1)
    print(follower.pace.told())
    for entry in record.entries.values():
        if entry.stage.kind == "report":
            print("\n".join(_found(Path(entry.stage.result))))
    if note:
        print(note)


def _found(page: Path) -> list[str]:
    """Return the first sentences of a report, and where it is."""
    try:
        summary = json.loads((page.parent / NUMBERS).read_text())["summary"]
        sentences = [one["first"] for one in summary]
    except (OSError, ValueError, KeyError, TypeError):  # of an earlier version
        sentences = []
    return [*sentences, f"the report: {page}"]


def _log_end(record: Record, row: Row) -> str:
    """Return the last lines of a failed stage's output, each on a line of its own."""
    if row.state != FAILED or row.job is None:
        return ""
    folder = record.logs(record.entries[row.stage].stage)
    events = record.events(record.entries[row.stage].stage)
    ranks = [line["rank"] for line in events if line.get("outcome") in attempts.FAILURES]
    file = logs.log_path(folder, row.job, ranks[-1] if ranks else 0)
    lines = logs.last_lines(file, _TAIL)
    return "".join(f"\n    {line}" for line in (f"the end of {file}:", *lines)) if lines else ""
