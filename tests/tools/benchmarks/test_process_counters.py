"""tools/benchmarks/process_counters.py: bytes that this process has sent, by the kernel's count."""

import socket

from benchmarks.process_counters import tcp_bytes_sent


def test_only_sent_bytes_are_counted() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:  # noqa: SIM117 (the next line asks for its name)
        with socket.create_connection(server.getsockname()) as sender, server.accept()[0] as receiver:
            before = tcp_bytes_sent()
            sender.sendall(bytes(10_000))
            while len(receiver.recv(10_000, socket.MSG_PEEK)) < 10_000:
                pass
            assert tcp_bytes_sent() - before == 10_000
            receiver.recv(10_000)
            receiver.close()  # with what it counted as received
            assert tcp_bytes_sent() - before == 10_000
