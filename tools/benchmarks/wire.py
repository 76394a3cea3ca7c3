"""What this process has sent over TCP, by the kernel's own count: nothing that a library does is left out."""

import contextlib
import os
import pathlib
import socket
import struct
import time

from pretrain.runtime.errors import PretrainError

BYTES_SENT = 200  # offset of tcpi_bytes_sent, a u64, in Linux's struct tcp_info (since Linux 4.19)
FILES = pathlib.Path("/proc/self/fd")
UNKNOWN = "bytes sent are counted by Linux 4.19 and later alone; this benchmark needs it"
SETTLE = 0.1  # seconds until what was handed to the kernel has left it


def bytes_sent() -> int:
    """Bytes of data that all open TCP sockets of this process have sent. Waits a moment for what is under way.

    Raises PretrainError where the system does not count them.
    """
    time.sleep(SETTLE)
    if not FILES.is_dir():
        raise PretrainError(UNKNOWN)
    total = 0
    for file in FILES.iterdir():
        with contextlib.suppress(OSError):  # closed since, or not TCP
            if os.readlink(file).startswith("socket:"):
                with socket.socket(fileno=os.dup(int(file.name))) as connection:
                    total += _sent(connection)
    return total


def _sent(connection: socket.socket) -> int:
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    if len(info) < BYTES_SENT + 8:
        raise PretrainError(UNKNOWN)
    return struct.unpack_from("Q", info, BYTES_SENT)[0]
