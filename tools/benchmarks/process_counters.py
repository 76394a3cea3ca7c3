"""The kernel's own counts of this process: its memory, and the bytes that it has sent over TCP.

Nothing that a library does is left out of them.
"""

import contextlib
import os
import pathlib
import socket
import struct
import sys
import time

from .arguments import BenchmarkError

FILES = pathlib.Path("/proc/self/fd")
_STATUS = pathlib.Path("/proc/self/status")
_BYTES_SENT = 200  # offset of tcpi_bytes_sent, a u64, in Linux's struct tcp_info (since Linux 4.19)
_UNKNOWN = "only Linux 4.19 and later count the bytes that a process has sent; this benchmark needs them"
_SETTLING = 0.1  # seconds until what was handed to the kernel has left it


def memory_bytes(key: str) -> int:
    """Return one of this process's memory counts in bytes.

    Args:
        key: a name of /proc/self/status: `VmRSS` (resident), `VmHWM` (its peak), `RssAnon` (without mapped files).

    Raises:
        LookupError: the kernel has no such count.
    """
    for line in _STATUS.read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise LookupError(key)


def tcp_bytes_sent() -> int:
    """Return the bytes of data that all open TCP sockets of this process have sent, after a moment for those under way.

    Raises:
        BenchmarkError: the system does not count them.
    """
    time.sleep(_SETTLING)
    if not FILES.is_dir():
        raise BenchmarkError(_UNKNOWN)
    total = 0
    for file in FILES.iterdir():
        with contextlib.suppress(OSError):  # closed since, or not TCP
            if os.readlink(file).startswith("socket:"):
                with socket.socket(fileno=os.dup(int(file.name))) as connection:
                    total += _sent_on(connection)
    return total


def _sent_on(connection: socket.socket) -> int:
    if sys.platform != "linux":
        raise BenchmarkError(_UNKNOWN)
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    if len(info) < _BYTES_SENT + 8:
        raise BenchmarkError(_UNKNOWN)
    return struct.unpack_from("Q", info, _BYTES_SENT)[0]
