"""tools/benchmarks/wire.py: bytes that this process has sent, by the kernel's count."""

import socket

from benchmarks import wire


def test_what_is_sent_is_counted_and_what_is_received_is_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:  # noqa: SIM117 (the next line asks for its name)
        with socket.create_connection(server.getsockname()) as sender, server.accept()[0] as receiver:
            before = wire.bytes_sent()
            sender.sendall(bytes(10_000))
            while len(receiver.recv(10_000, socket.MSG_PEEK)) < 10_000:
                pass
            assert wire.bytes_sent() - before == 10_000
            receiver.recv(10_000)
            receiver.close()  # with what it counted as received
            assert wire.bytes_sent() - before == 10_000
