"""The key-value store through which processes meet: rank 0 or torchrun serves it, every process is a client of it."""

import contextlib
import datetime
import os
import queue
import socket
import threading
from typing import TYPE_CHECKING

from pretrain.runtime.ranks.environment import StrangerFault, World

if TYPE_CHECKING:  # a tool that needs no torch starts without it
    import torch.distributed as dist

HANDSHAKE = datetime.timedelta(seconds=30)  # for an answer of something that has accepted a connection


def serve_store(world: World) -> "dist.TCPStore":
    """Serve the world's store, from this process on. Raises StrangerFault where another program has the port."""
    import torch.distributed as dist

    try:
        return dist.TCPStore(
            world.host, world.port, world.size, is_master=True, wait_for_workers=False, multi_tenant=True
        )
    except (RuntimeError, ValueError) as error:
        reason = "another program has it" if "EADDRINUSE" in str(error) or "in use" in str(error) else _line(error)
        raise StrangerFault(
            f"MASTER_PORT {world.port} cannot be used on {socket.gethostname()}: {reason}. Set MASTER_PORT to a free "
            "port, the same for all processes, or end what is left of an earlier run"
        ) from None


def connect_to_store(world: World, timeout: datetime.timedelta = HANDSHAKE) -> "dist.TCPStore | None":
    """Connect to the world's store; None where nobody answers yet.

    Args:
        world: of this process.
        timeout: of later requests.

    Raises StrangerFault where something else answers.
    """
    with contextlib.suppress(OSError):  # torch's client would log each attempt
        socket.create_connection((world.host, world.port), timeout=2).close()
        store = _handshake(world)
        store.set_timeout(timeout)
        return store
    return None


def _handshake(world: World) -> "dist.TCPStore":
    """Become a client of what listens there, which may be anything: torch's client would wait for its word for ever."""
    import torch.distributed as dist

    made: queue.Queue[dist.TCPStore | Exception] = queue.Queue()

    def make() -> None:
        try:
            made.put(dist.TCPStore(world.host, world.port, is_master=False, timeout=HANDSHAKE))
        except RuntimeError as error:
            made.put(error)

    threading.Thread(target=make, daemon=True).start()
    try:
        found = made.get(timeout=HANDSHAKE.total_seconds())
    except queue.Empty:
        found = RuntimeError("no answer in time")
    if isinstance(found, Exception):
        raise StrangerFault(
            f"{world.host}:{world.port} is open, but not as rank 0 of this run serves it ({_line(found)}). Set "
            "MASTER_PORT to a free port, the same for all processes"
        )
    return found


def namespaced(store: "dist.Store", world: World) -> "dist.PrefixStore":
    """Return the store with keys of this run and attempt alone: torchrun keeps its store when it starts them again."""
    import torch.distributed as dist

    return dist.PrefixStore(f"moco_transfer/{world.name}/{world.size}", store)


def unresolved(world: World) -> str:
    """Return a clause on a host whose name this machine does not know; empty where it does."""
    try:
        socket.getaddrinfo(world.host, world.port)
    except OSError as error:
        return f" ({os.uname().nodename} cannot resolve the name {world.host}: {error.strerror})"
    return ""


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
