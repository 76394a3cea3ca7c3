"""SLURM's own word on a site: its partitions and their GPUs, the accounts of this user and their limits."""

import getpass
import re
from collections.abc import Mapping
from dataclasses import dataclass

from ..cluster import slurm
from ..cluster.errors import LaunchError

_GPUS = re.compile(r"gpu:(?:(?P<type>[^:,()]+):)?(?P<count>\d+)")
_ASSOCIATION = ("account", "partition", "qos", "defaultqos", "maxsubmit", "maxwall", "maxtres")
_QOS = ("name", "maxwall", "maxtres", "maxtrespu", "maxsubmitpu", "grptres")


@dataclass(frozen=True)
class Nodes:
    """Nodes of a partition that are alike: how many, and their GPUs by type ("": of none)."""

    count: int
    gpus: Mapping[str, int]
    up: bool


def partitions() -> dict[str, dict[str, str]]:
    """Return what SLURM says of each partition.

    Raises:
        LaunchError: it does not answer.
    """
    found = [_pairs(line) for line in ask("scontrol", "-o", "show", "partition").splitlines()]
    return {pairs["PartitionName"]: pairs for pairs in found if "PartitionName" in pairs}


def nodes(partition: str) -> list[Nodes]:
    """Return the kinds of nodes of a partition."""
    found = []
    for line in ask("sinfo", "-h", "-e", "-p", partition, "-o", "%D|%G|%T").splitlines():
        count, gres, state = line.split("|")
        gpus: dict[str, int] = {}
        for match in _GPUS.finditer(gres):
            kind = match["type"] or ""
            gpus[kind] = gpus.get(kind, 0) + int(match["count"])
        found.append(Nodes(int(count), gpus, not state.startswith(("down", "drain", "fail", "unk"))))
    return found


def enforced() -> set[str]:
    """Return what SLURM refuses jobs for: "associations", "limits", "qos", ...; none where accounts are not checked."""
    for line in ask("scontrol", "show", "config").splitlines():
        name, _, value = line.partition("=")
        if name.strip() == "AccountingStorageEnforce":
            return set(value.strip().split(",")) - {"none", "(null)"}
    return set()


def associations() -> list[dict[str, str]]:
    """Return the accounts that this user may charge, with their limits. Raises LaunchError without accounting."""
    return _rows("assoc", _ASSOCIATION, f"user={getpass.getuser()}")


def default_account() -> str:
    """Return the account of jobs that name none; "" where there is no such."""
    rows = _rows("user", ("defaultaccount",), getpass.getuser())
    return rows[0]["defaultaccount"] if rows else ""


def qualities() -> dict[str, dict[str, str]]:
    """Return the limits of each quality of service."""
    return {row["name"]: row for row in _rows("qos", _QOS)}


def ask(*command: str, text: str | None = None) -> str:
    """Return what a command of SLURM's prints.

    Args:
        text: its input.

    Raises:
        LaunchError: it fails, with what it said.
    """
    done = slurm.run(*command, text=text)
    if done.returncode:
        lines = dict.fromkeys(line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip())
        raise LaunchError("; ".join(lines) or f"{command[0]} ended with {done.returncode}")
    return done.stdout + done.stderr


def minutes(text: str) -> float | None:
    """Return the minutes of SLURM's [DAYS-][[HOURS:]MINUTES:]SECONDS; None of no limit."""
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", text)
    if match is None:
        return None
    days, hours, whole, seconds = (int(part or 0) for part in match.groups())
    return (days * 24 + hours) * 60 + whole + seconds / 60


def amounts(text: str) -> dict[str, int]:
    """Return the counts of SLURM's list of resources: {"gres/gpu": 8, "node": 2} of "cpu=64,gres/gpu=8,mem=10G,node=2".

    Those with a unit are left out.
    """
    found = (part.partition("=") for part in text.split(","))
    return {name: int(value) for name, _, value in found if value.isdigit()}


def _rows(what: str, columns: tuple[str, ...], *which: str) -> list[dict[str, str]]:
    lines = ask("sacctmgr", "-n", "-P", "show", what, *which, f"format={','.join(columns)}").splitlines()
    return [dict(zip(columns, line.split("|"), strict=False)) for line in lines]


def _pairs(line: str) -> dict[str, str]:
    return dict(word.split("=", 1) for word in line.split() if "=" in word)
