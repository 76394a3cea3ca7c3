"""The meeting of all processes of a run: each waits for the others aloud, and all see that they fit together."""

import datetime
import hashlib
import json
import os
import pathlib
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch.distributed as dist

from pretrain.runtime.ranks import store as stores
from pretrain.runtime.ranks.environment import LaunchFault, OtherFailedFault, StrangerFault, World

QUIET = 3.0  # seconds of waiting without a word: processes need some time to start
LIMIT = 600.0  # seconds until a process gives up
LIMIT_INTERACTIVE = 60.0  # the same in the shell of `srun --pty`, where the others hardly come
LEAVE = 2.0  # seconds that a process which was asked to stop still waits
POLL = 0.1
ROOT = pathlib.Path(__file__).resolve().parents[3]
CODE = ("pretrain", "transfer", "tools")

Facts = Mapping[str, Any]
# What all processes must have in common, and what to say of it.
SHARED = {
    "world": "the number of processes",
    "device": "the type of the device",
    "torch": "the version of PyTorch",
    "code": "the files of this program (their digest)",
}


class AskedToStop(Exception):  # noqa: N818 (it is not an error)
    """A signal asked this process, or one that waited with it, to stop before all had met."""


def meet(world: World, facts: Facts, asked: Callable[[], str | None], limit: float | None = None) -> dist.TCPStore:
    """Wait until all processes of the world are here, and compare them. Returns the store that they share.

    Args:
        world: of this process.
        facts: of this process, see `compare_facts`.
        asked: returns the name of a signal that has asked this process to stop, if any.
        limit: seconds to wait; None: LIMIT, in an interactive shell LIMIT_INTERACTIVE.

    Raises:
        LaunchFault: they do not come, or do not fit together.
        AskedToStop: on all processes that are here, where one of them was asked before all were.
    """
    if limit is None:
        limit = LIMIT_INTERACTIVE if world.interactive else LIMIT
    wait = _Wait(world, asked, limit)
    served = stores.serve_store(world) if world.hosted else None
    while (store := stores.connect_to_store(world, datetime.timedelta(minutes=30))) is None:
        wait.look([0], None)
    keys = stores.namespaced(store, world)
    _enter(keys, world, facts)
    while missing := _missing(keys, world.size):
        wait.look(missing, keys)
    wait.end()
    if world.rank == 0:
        found = [json.loads(keys.get(f"here/{rank}")) for rank in range(world.size)]
        keys.set("verdict", json.dumps(compare_facts(found)))
    while not keys.check(["verdict"]):
        wait.look([0], keys)
    faults = json.loads(keys.get("verdict"))
    if faults:
        raise LaunchFault("\n".join(["the processes of this run do not fit together:", *faults]))
    return served or store


def compare_facts(found: Sequence[Facts]) -> list[str]:
    """Return the faults of processes that do not fit together.

    Args:
        found: of each rank: `host`; what SHARED names; `gpu`, an identity of its GPU or None; `settings`, a mapping.
    """
    faults = [
        f"  {name} differs: {_by_value(found, [facts[key] for facts in found])}"
        for key, name in SHARED.items()
        if len({facts[key] for facts in found}) > 1
    ]
    for key in sorted({key for facts in found for key in facts["settings"]}):
        values = [facts["settings"].get(key) for facts in found]
        if len(set(map(str, values))) > 1:
            faults.append(f"  {key} differs: {_by_value(found, values)}")
    holders: dict[tuple[str, str], list[int]] = {}
    for rank, facts in enumerate(found):
        if facts["gpu"] is not None:
            holders.setdefault((facts["host"], facts["gpu"]), []).append(rank)
    faults += [
        f"  ranks {', '.join(map(str, ranks))} of host {host} share one GPU ({gpu}): each process needs its own, so "
        "start as many processes as the machine has GPUs"
        for (host, gpu), ranks in holders.items()
        if len(ranks) > 1
    ]
    return faults[:10]


def digest_code() -> str:
    """Return a digest of this program's files: twelve hexadecimal digits."""
    digest = hashlib.sha256()
    for path in sorted(path for folder in CODE for path in (ROOT / folder).rglob("*.py")):
        digest.update(f"{path.relative_to(ROOT)}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


class _Wait:
    """The patience of one process: it says that it waits, hears signals, and ends."""

    def __init__(self, world: World, asked: Callable[[], str | None], limit: float) -> None:
        self.world, self.asked, self.limit = world, asked, limit
        self.begun = time.monotonic()
        self.asked_at: float | None = None
        self.said = False

    def look(self, missing: Sequence[int], keys: dist.Store | None) -> None:
        """Pause, unless it is time to end.

        Args:
            missing: ranks that are waited for.
            keys: where the others are; None: nobody answers yet.
        """
        now = time.monotonic()
        waited = now - self.begun
        if waited > self.limit:
            raise LaunchFault(
                f"waited {self.limit:.0f} s, and gave up {self._describe(missing, keys)}. {self._advice()}"
            )
        if not self.said and waited > QUIET and self._speaks(missing, keys):
            self.said = True
            self._print(f"waiting {self._describe(missing, keys)}, at most {self.limit:.0f} s. {self._advice()}")
        if keys is not None and keys.check(["failed"]):
            raise OtherFailedFault("another process has failed")
        if keys is not None and keys.check(["stopped"]):
            raise AskedToStop(keys.get("stopped").decode())
        name = self.asked()
        if name and self.asked_at is None:
            self.asked_at = now
        if name and now - (self.asked_at or now) > LEAVE:
            if keys is not None:
                keys.set("stopped", name)
            self._print(f"stopped by {name} while waiting {self._describe(missing, keys)}; nothing was begun")
            raise AskedToStop(name)
        time.sleep(POLL)

    def end(self) -> None:
        """All are here."""
        if self.said:
            self._print(f"all {self.world.size} processes are here")

    def _speaks(self, missing: Sequence[int], keys: dist.Store | None) -> bool:
        """Return whether this process says what others know as well."""
        if keys is None:
            return self.world.local_rank < 2  # rank 0 is not here
        return self.world.rank == next(rank for rank in range(self.world.size) if rank not in missing)

    def _describe(self, missing: Sequence[int], keys: dist.Store | None) -> str:
        there = f"{self.world.host}:{self.world.port}"
        if keys is None:
            return f"for rank 0 of {self.world.size} processes at {there}{stores.unresolved(self.world)}"
        shown = ", ".join(map(str, missing[:8])) + (", ..." if len(missing) > 8 else "")
        return f"for {len(missing)} of {self.world.size} processes (rank {shown}) at {there}"

    def _advice(self) -> str:
        told = f"The environment says that there are {self.world.size}: {self.world.source}"
        if "SLURM" in self.world.source:
            return (
                f"{told}. In a shell that is one task of several (`srun -n {self.world.size} --pty bash`), run the "
                f"command as a step of its own: `srun --overlap -n {self.world.size} COMMAND`, or with `-n 1` for one "
                "process"
            )
        return f"{told}. Start the others, or unset these variables to run one process"

    @staticmethod
    def _print(text: str) -> None:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


def _enter(keys: dist.Store, world: World, facts: Facts) -> None:
    """Say that this process is here. Raises StrangerFault where another has the same rank."""
    own = json.dumps({**facts, "host": socket.gethostname(), "pid": os.getpid(), "world": world.size})
    there = keys.compare_set(f"here/{world.rank}", "", own).decode()
    if there != own:
        other = json.loads(there)
        raise StrangerFault(
            f"rank {world.rank} is here twice: process {other['pid']} of host {other['host']} has joined "
            f"{world.host}:{world.port} already ({world.source}). Two runs at once need a MASTER_PORT each"
        )


def _missing(keys: dist.Store, size: int) -> list[int]:
    if keys.check([f"here/{rank}" for rank in range(size)]):
        return []
    return [rank for rank in range(size) if not keys.check([f"here/{rank}"])]


def _by_value(found: Sequence[Facts], values: Sequence[Any]) -> str:
    """Return "3 on rank 0 of host a; 4 on ranks 1, 2 of host b"."""
    groups: dict[str, list[str]] = {}
    for rank, (facts, value) in enumerate(zip(found, values, strict=True)):
        groups.setdefault(str(value), []).append(f"{rank} of host {facts['host']}")
    return "; ".join(
        f"{value} on rank {', '.join(ranks[:4])}" + (f" and {len(ranks) - 4} more" if len(ranks) > 4 else "")
        for value, ranks in groups.items()
    )
