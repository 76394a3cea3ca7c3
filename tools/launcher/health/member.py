"""One process of an all-reduce: `python -m launcher.health.member HOST NODES DEVICE START STEP`.

NODES are the hosts in the order of the ranks, separated by commas; torchrun's variables say which rank this is.

The ranks meet in a store, where each says how far it is and, ten times a second, that it lives. So those that wait
can name the one that has stopped. The nodes exchange within themselves first: a GPU that hangs there is its node's.
The last line of the output is JSON.
"""

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

NUMBERS = {"cuda": 25_000_000, "cpu": 250_000}  # of four bytes: 100 MB, and 1 MB where it only shows the way
_BEAT, _LISTEN = 0.1, 2.0  # seconds between two signs of life; that they are listened to
_LEAVE = 10.0  # seconds that rank 0 waits for the others at the end


class _Failed(Exception):  # noqa: N818 (a result, not a bug)
    def __init__(self, fault: str, hosts: Iterable[str]) -> None:
        super().__init__(fault)
        self.hosts = sorted(set(hosts))


@dataclass
class _Member:
    """A rank and the store in which it meets the others."""

    rank: int
    size: int
    host: str
    nodes: Sequence[str]  # where the ranks are to be, as the launcher has placed them
    start: float
    step: float
    hosts: dict[int, str] = field(default_factory=dict)  # by rank

    def __post_init__(self) -> None:
        self.store = self._connect()

    def _connect(self) -> dist.TCPStore:
        where, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        try:
            return dist.TCPStore(
                where, port, self.size, self.rank == 0, timedelta(seconds=self.start), wait_for_workers=False
            )
        except (RuntimeError, ValueError) as error:
            first = str(error).splitlines()[0][:200]
            raise _Failed(f"{self.host} cannot reach rank 0 at {where}:{port}: {first}", []) from error

    def meet(self) -> None:
        """Wait until all ranks have come, and learn their hosts."""
        self.store.set(f"here/{self.rank}", self.host)
        threading.Thread(target=self._beat, daemon=True).start()
        if missing := self._missing("here", range(self.size), self.start):
            late = {self.nodes[rank * len(self.nodes) // self.size] for rank in missing}
            who = f"{_ranks(missing)} on {', '.join(sorted(late))}"
            raise _Failed(f"{who} did not come to the all-reduce within {self.start:.0f} s", late)
        self.hosts = {rank: self.store.get(f"here/{rank}").decode() for rank in range(self.size)}

    def exchange(self, name: str, ranks: Sequence[int], group: Any, device: torch.device) -> float:
        """Sum over some ranks; return the seconds that it took."""
        numbers = torch.full((NUMBERS[device.type],), float(self.rank + 1), device=device)
        began = time.monotonic()
        work = dist.all_reduce(numbers, group=group, async_op=True)
        while work is not None and not work.is_completed():
            if time.monotonic() - began > self.step:
                raise self.explained(name, ranks)
            time.sleep(0.001)
        if work is not None:
            work.wait()
        right = float(sum(rank + 1 for rank in ranks))
        if not bool((numbers == right).all()):  # waits for the GPU
            raise _Failed(f"{self.host}: the sum {name} is wrong", [self.host])
        took = time.monotonic() - began
        self.store.set(f"{name}/{self.rank}", "done")
        if missing := self._missing(name, ranks, self.step):
            raise self.explained(name, missing)
        return took

    def leave(self) -> None:
        """Wait until all have done, for rank 0 has the store; not for long where one of them hangs."""
        with contextlib.suppress(RuntimeError):
            self.store.set(f"left/{self.rank}", "")
            if self.rank == 0:
                self._missing("left", range(self.size), _LEAVE)

    def _beat(self) -> None:
        count = 0
        while True:
            count += 1
            self.store.set(f"beat/{self.rank}", str(count))
            time.sleep(_BEAT)

    def _missing(self, key: str, ranks: Iterable[int], seconds: float) -> list[int]:
        deadline = time.monotonic() + seconds
        waited = list(ranks)
        while waited := [rank for rank in waited if not self.store.check([f"{key}/{rank}"])]:
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
        return waited

    def explained(self, name: str, ranks: Sequence[int]) -> _Failed:
        """Return the failure of an exchange that takes too long, with those of its ranks that give no sign of life."""
        before = {rank: self.store.get(f"beat/{rank}") for rank in ranks}
        time.sleep(_LISTEN)
        silent = [rank for rank in ranks if self.store.get(f"beat/{rank}") == before[rank]]
        on = {self.hosts[rank] for rank in silent or ranks}
        where = f"on {', '.join(sorted(on))}"
        who = f"{_ranks(silent)} {where} does not answer" if silent else f"its processes {where} all answer"
        return _Failed(
            f"the all-reduce {name} did not end within {self.step:.0f} s: {who}", on if silent or len(on) == 1 else []
        )


def _ranks(ranks: Sequence[int]) -> str:
    return f"rank{'s' if len(ranks) > 1 else ''} {', '.join(map(str, ranks))}"


def take_part(member: _Member, device: torch.device) -> float:
    """Exchange with the other ranks, within the node first; return the seconds of the last exchange."""
    member.meet()
    backend = "nccl" if device.type == "cuda" else "gloo"
    store = dist.PrefixStore("group", member.store)
    limit = timedelta(seconds=member.step)
    everyone = range(member.size)
    try:
        dist.init_process_group(backend, store=store, rank=member.rank, world_size=member.size, timeout=limit)
    except RuntimeError as error:
        raise member.explained("of all", everyone) from error
    nodes = {name: [rank for rank, on in member.hosts.items() if on == name] for name in member.hosts.values()}
    if len(nodes) > 1:
        groups = {name: dist.new_group(ranks) for name, ranks in nodes.items()}  # all ranks make all
        member.exchange(f"within {member.host}", nodes[member.host], groups[member.host], device)
    member.exchange("of all", everyone, None, device)  # the first one connects them
    return member.exchange("of all again", everyone, None, device)


def choose_device(name: str) -> torch.device:
    """Return the GPU of the local rank, as the tools take it, or the CPU."""
    if name != "auto" or not torch.cuda.is_available():
        return torch.device("cpu")
    local = int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device("cuda", 0 if torch.cuda.device_count() == 1 else local)
    torch.cuda.set_device(device)
    return device


def main() -> None:
    host, nodes, name, start, step = sys.argv[1:]
    found: dict[str, object] = {"fault": "", "hosts": [], "device": "", "seconds": 0.0}
    member = None
    try:
        device = choose_device(name)
        rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        member = _Member(rank, size, host, nodes.split(","), float(start), float(step))
        found |= {"device": device.type, "seconds": take_part(member, device)}
    except _Failed as failure:
        found |= {"fault": str(failure), "hosts": failure.hosts}
    except (RuntimeError, ValueError) as error:  # of torch, NCCL and gloo: their last resort
        found |= {"fault": f"{host}: {str(error).splitlines()[0][:300]}", "hosts": [host]}
    print(json.dumps(found), flush=True)
    if member is not None:
        member.leave()
    os._exit(0)  # an exchange that hangs would keep the interpreter


if __name__ == "__main__":
    main()
