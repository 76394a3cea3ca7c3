"""The ends of processes, and the text about them for the user: each message once, with the ranks that met it."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Failure:
    """The end of one process.

    Args:
        rank: of the process.
        host: its machine.
        text: for the user; empty where it said nothing itself.
        code: its exit code.
        is_bug: the text is a traceback.
        agreed: all processes have the same error.
        follows: the error is another process's, or that another has gone.
    """

    rank: int
    host: str
    text: str
    code: int
    is_bug: bool = False
    agreed: bool = False
    follows: bool = False


def describe_failures(failures: Sequence[Failure], size: int) -> str:
    """Return the text for the user: each different message once, with the ranks that met it.

    Args:
        failures: of the processes that are known to have ended.
        size: number of processes of the run.
    """
    said = [one for one in failures if one.text]
    causes = [one for one in said if not one.follows]
    if not causes and said:
        silent = sorted(set(range(size)) - {one.rank for one in failures})
        lost = f"rank {', '.join(map(str, silent))} has" if silent else "it has"
        causes = said[:1]
        head = f"error: a process has gone, {lost} left no message: killed by the system (memory?) or by hand?\n"
    else:
        head = ""
    groups: dict[str, list[Failure]] = {}
    for one in causes:
        groups.setdefault(one.text, []).append(one)
    lines = []
    for text, members in groups.items():
        where = "" if len(members) == size and not members[0].is_bug else f" on {describe_ranks(members)}"
        separator = "\n" if members[0].is_bug else " "
        lines.append(f"error{where}:{separator}{text}")
    return head + "\n".join(lines)


def describe_ranks(members: Sequence[Failure]) -> str:
    """Return "rank 1 of host a", or "ranks 0 to 3, 6 of host a and rank 8 of host b"."""
    hosts: dict[str, list[int]] = {}
    for one in members:
        hosts.setdefault(one.host, []).append(one.rank)
    parts = [
        f"rank{'s' if len(ranks) > 1 else ''} {_ranges(sorted(ranks))} of host {host}" for host, ranks in hosts.items()
    ]
    more = f" and {len(parts) - 8} more hosts" if len(parts) > 8 else ""
    return " and ".join(parts[:8]) + more


def _ranges(ranks: Sequence[int]) -> str:
    """Return "0 to 3, 6" for [0, 1, 2, 3, 6]."""
    runs: list[list[int]] = []
    for rank in ranks:
        if runs and rank == runs[-1][-1] + 1:
            runs[-1].append(rank)
        else:
            runs.append([rank])
    texts = [f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs]
    return ", ".join(texts)
