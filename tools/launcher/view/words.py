"""The words for what a cluster says of a job: why it waits, how it ended, how long it took."""

import signal
from datetime import datetime

from ..cluster.slurm import LOST

_WAITS = {  # SLURM's reason of a job that is pending, or how it begins -> in plain words
    "Resources": "waits for free nodes",
    "Priority": "waits behind other jobs",
    "BeginTime": "may not start yet",
    "JobArrayTaskLimit": "waits for others of its array",
    "JobHeldUser": "is held: `scontrol release` frees it",
    "JobHeldAdmin": "is held by an administrator",
    "launch failed requeued held": "is held, for a node could not start it: `scontrol release` frees it",
    "PartitionTimeLimit": "cannot start: its time is over the partition's limit",
    "PartitionNodeLimit": "cannot start: its nodes are over the partition's limit",
    "PartitionDown": "waits for its partition, which is down",
    "PartitionInactive": "waits for its partition, which is inactive",
    "BadConstraints": "cannot start: no node has what it asks for",
    "ReqNodeNotAvail": "waits for nodes that are down or reserved",
    "Nodes required": "waits for nodes that are down or reserved",
    "Nodes_required": "waits for nodes that are down or reserved",
    "Reservation": "waits for its reservation",
    "Licenses": "waits for licences",
    "QOS": "limited by its QOS",
    "Assoc": "limited by its account",
    "MaxMem": "cannot start: it asks for more memory than it may",
}
_ENDS = {  # SLURM's state of a job that has ended
    "TIMEOUT": "over its time limit",
    "NODE_FAIL": "its node failed",
    "OUT_OF_MEMORY": "used more memory than it had asked for",
    "PREEMPTED": "preempted",
    "BOOT_FAIL": "its node did not boot",
    "DEADLINE": "over its deadline",
}


def waiting(reason: str) -> str:
    """Return why a job in the queue waits: SLURM's reason, behind plain words where there are any."""
    if reason in ("", "None"):
        return "submitted just now"
    plain = next((words for start, words in _WAITS.items() if reason.startswith(start)), None)
    return f"{plain} (SLURM: {reason})" if plain else f"SLURM: {reason}"


def ended(state: str) -> str:
    """Return the words for SLURM's state of a job that has ended badly."""
    if state == LOST:
        return f"{LOST}: SLURM's accounting has it, the queue does not"
    return f"{_ENDS[state]} (SLURM: {state})" if state in _ENDS else f"SLURM: {state}"


def exit_code(code: int) -> str:
    """Return the words for the exit code of a tool: Python's -9 and a shell's 137 are both SIGKILL."""
    number = -code if code < 0 else code - 128
    try:
        name = signal.Signals(number).name
    except ValueError:
        return f"exit code {code}"
    return "killed (SIGKILL; often memory)" if name == "SIGKILL" else f"ended by {name}"


def moment(time: str, now: datetime) -> str:
    """Return a time of ISO 8601 for a reader of this minute: "17:30" of the same day, else "2026-11-30 17:30"."""
    found = datetime.fromisoformat(time)
    return f"{found:%H:%M}" if found.date() == now.date() else f"{found:%Y-%m-%d %H:%M}"


def minutes(seconds: float) -> str:
    """Return a duration as "45 s", "3.2 min" or "2.1 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} h"


def clock(seconds: float) -> str:
    """Return a duration as "0:45", "12:03" or "1:02:03"."""
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"
