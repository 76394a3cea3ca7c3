"""A small job with a stage's request that looks at the nodes: submitted, awaited, cancelled if it does not start."""

import contextlib
import errno
import fcntl
import json
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .. import jobs
from ..cluster import slurm
from ..cluster.errors import LaunchError
from ..cluster.resources import Resources
from ..record import Record
from ..stages import snapshot
from . import limits, site
from .findings import OK, UNCHECKED, WARNING, WRONG, Finding, folded
from .probe import LOCK, LOGIN_FILE, Probe
from .request import a_stage, small
from .verdict import judge

_PAUSE = 2.0  # seconds between two looks at the queue
_LAG = 60  # seconds until the login node must see what a node wrote
_GRACE = 900  # seconds that the job may take beyond its start; its own time limit ends it sooner


def existing(folder: Path) -> Path:
    """Return the innermost part of a path that is there: the file system that it will be on."""
    folder = folder.resolve()
    return next(part for part in (folder, *folder.parents) if part.is_dir())


@contextlib.contextmanager
def workplace(run: Path) -> Iterator[Path]:
    """Make a folder beside where the run will be; it is removed at the end unless a file `keep` is in it."""
    folder = Path(tempfile.mkdtemp(prefix="doctor-", dir=existing(run)))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        if not (folder / "keep").exists():
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def held_lock(folder: Path) -> Iterator[Finding]:
    """Hold a POSIX lock in a folder, as `launch` does in the run; yield what became of it."""
    found = Finding(OK, "lock", f"{folder.parent} has POSIX locks")
    with open(folder / LOCK, "a") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            why = errno.errorcode.get(error.errno or 0, "")
            text = f"{folder.parent} has no POSIX locks ({error.strerror}, {why}): a folder beside it serves as one"
            found = Finding(WARNING, "lock", text)
        yield found


def look_at_nodes(asked: Resources, folder: Path, patience: float, locks: bool) -> list[Finding]:
    """Submit the job and wait for it.

    Args:
        folder: in which it works.
        patience: seconds that it may wait in the queue.
        locks: this process holds the folder's lock.
    """
    asked = small(asked)
    token = uuid.uuid4().hex
    (folder / LOGIN_FILE).write_text(token)
    record = Record(folder, "slurm", str(Path.cwd()))
    stage = a_stage(asked, folder)
    probe = Probe(str(folder), token, limits.asked_gpus(asked)[0], asked.tasks, locks, jobs.tools_python(stage))
    try:
        job = jobs.submit_call(stage, record, snapshot.code(folder / "code"), probe, token)
    except LaunchError as error:
        return [Finding(WRONG, "node job", str(error))]
    print(folded(f"{'job':<12}{job}: looks at the nodes, in {folder}"), flush=True)
    try:
        unstarted = _await(job, token, folder, asked, patience)
    finally:
        with contextlib.suppress(LaunchError):
            slurm.cancel([job])
    if unstarted is not None:
        return [unstarted]
    found = judge(_read(folder), asked, limits.asked_gpus(asked)[0], _ending(job), record.logs(stage), job)
    if any(finding.state == WRONG for finding in found) and any(record.logs(stage).glob("*.out")):
        (folder / "keep").touch()
        print(folded(f"{'log':<12}what the job said is in {record.logs(stage)}; remove {folder} then"), flush=True)
    return found


def _await(job: str, token: str, folder: Path, asked: Resources, patience: float) -> Finding | None:
    """Wait until all ranks have told, or the job has ended. Returns what to say where it has not started."""
    queued, started, ended, shown = time.monotonic(), 0.0, 0.0, ""
    while len([rank for rank in _read(folder) if rank.get("done")]) < asked.tasks:
        now = time.monotonic()
        try:
            state = slurm.job_states({job: token}).get(job)
        except LaunchError:
            state = None
        if state is not None and state.name == "PENDING":
            if state.reason not in (shown, "None"):  # None: nobody has looked at it yet
                shown = state.reason
                print(f"{'':<12}it waits in the queue ({shown or 'no reason yet'})", flush=True)
            if now - queued > patience:
                return _unstarted(patience, state)
        elif state is not None and state.live:
            started = started or now
            if now - started > _GRACE:
                return None
        else:
            ended = ended or now
            if now - ended > (_LAG if (folder / "rank_0.json").exists() else 10):
                return None
        time.sleep(_PAUSE)
    return None


def _unstarted(patience: float, state: slurm.State) -> Finding:
    expected = f"; SLURM expects it to start at {state.starts.replace('T', ' ')}" if state.starts else ""
    why = f"{state.reason}{expected}"
    text = f"queued, not started within {patience:.0f} s ({why}), cancelled: the nodes were not looked at"
    cure = "--queue-limit SECONDS waits longer; --nodes 1 --gpus 1 --time 0:10 may start sooner"
    return Finding(UNCHECKED, "nodes", text, cure)


def _read(folder: Path) -> list[dict[str, Any]]:
    os.listdir(folder)  # a network file system looks again
    found = []
    for path in sorted(folder.glob("rank_*.json")):
        with contextlib.suppress(OSError, ValueError):
            found.append({**json.loads(path.read_text()), "seen": time.time()})
    return found


def _ending(job: str) -> str:
    """Return the job's state, exit code and nodes in words."""
    with contextlib.suppress(LaunchError):
        pairs = dict(
            word.split("=", 1) for word in site.ask("scontrol", "-o", "show", "job", job).split() if "=" in word
        )
        code, reason = pairs.get("ExitCode", ""), pairs.get("Reason", "")
        return f"job {job} on {pairs.get('NodeList', '?')}: {pairs.get('JobState', '?')}, {reason}, exit code {code}"
    return f"job {job}"
