"""The faults of gloo's first connections, explained: on machines with several networks it may take the wrong one."""

import contextlib
import os
import re
import socket
import sys
import threading
from collections.abc import Iterator

SLOW = 30.0  # seconds
_ADDRESS = re.compile(r"gloo|[Uu]nable to (find|resolve)|makeDeviceFor|connectFullMesh|onnection (refused|timed out)")


def explain(error: Exception) -> str | None:
    """Return the message for a failure to connect through gloo; None for another error."""
    text = str(error).strip()
    if not _ADDRESS.search(text):
        return None
    return f"the processes cannot connect to each other through gloo: {text.splitlines()[0]}. {_advice()}"


@contextlib.contextmanager
def said_if_slow() -> Iterator[None]:
    """Say what may be wrong where the block takes long."""
    timer = threading.Timer(SLOW, lambda: sys.stderr.write(f"still connecting to the other processes. {_advice()}\n"))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _advice() -> str:
    name = socket.gethostname()
    try:
        address = f"{name} is {socket.gethostbyname(name)} for itself"
    except OSError:
        address = f"{name} cannot resolve its own name"
    chosen = os.environ.get("GLOO_SOCKET_IFNAME")
    interfaces = ", ".join(found for _, found in socket.if_nameindex())
    return (
        f"GLOO_SOCKET_IFNAME is {chosen or 'not set'}, and {address}; it has the interfaces {interfaces}. Set "
        "GLOO_SOCKET_IFNAME (and NCCL_SOCKET_IFNAME) to the one that reaches the other machines"
    )
