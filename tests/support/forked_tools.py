"""Scripts run by forks of a process that has imported PyTorch and this project: `python -m tests.support.forked_tools`.

A start of a tool costs some 4 s of imports; a fork of the prepared process has them already. The child runs the script
as `python tools/NAME.py` does: its own arguments, folder, path, environment, output and exit code.
"""

import gc
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
_ANSWER = 4096  # bytes at most of an answer


class Server:
    """The prepared process, started at the first call. One call at a time."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def run(
        self, words: list[str], folder: Path, environment: dict[str, str], seconds: float
    ) -> "subprocess.CompletedProcess[str]":
        """Run `python WORDS`, of which the first is a script, and return its exit code and output.

        Raises:
            subprocess.TimeoutExpired: it took longer; it has been killed.
        """
        if self._process is None:
            self._start()
        request = {"words": words, "folder": str(folder), "environment": environment}
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as error:
            socket.send_fds(self._socket, [b"!"], [out.fileno(), error.fileno()])
            self._stream.write(json.dumps(request).encode() + b"\n")
            self._stream.flush()
            pid = int(self._stream.readline())
            self._socket.settimeout(seconds)
            try:
                code = int(self._stream.readline())
            except TimeoutError:
                os.kill(pid, signal.SIGKILL)
                self.stop()
                raise subprocess.TimeoutExpired(words, seconds) from None
            self._socket.settimeout(None)
            texts = [_text(file) for file in (out, error)]
        return subprocess.CompletedProcess(words, code, *texts)

    def stop(self) -> None:
        if self._process is not None:
            self._stream.close()
            self._socket.close()
            try:
                self._process.wait(60)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def _start(self) -> None:
        self._socket, theirs = socket.socketpair()
        self._stream = self._socket.makefile("rwb")
        command = [sys.executable, "-m", "tests.support.forked_tools", str(theirs.fileno())]
        self._process = subprocess.Popen(
            command, cwd=ROOT, pass_fds=[theirs.fileno()], env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        theirs.close()


def _text(file: Any) -> str:
    file.seek(0)
    text: str = file.read().decode()
    return text


def serve(connection: socket.socket) -> list[str] | None:
    """Answer requests until the other side closes: None. In a child: the words that it is to run."""
    stream = connection.makefile("rwb")
    while True:
        sign, outputs, _, _ = socket.recv_fds(connection, 1, 2)
        if not sign:
            return None
        request = json.loads(stream.readline())
        pid = os.fork()
        if pid == 0:
            for target, output in zip((1, 2), outputs, strict=True):
                os.dup2(output, target)
            for descriptor in (*outputs, connection.detach()):
                os.close(descriptor)
            os.chdir(request["folder"])
            os.environ.clear()
            os.environ.update(request["environment"])
            time.tzset()
            words: list[str] = request["words"]
            return words
        for output in outputs:
            os.close(output)
        stream.write(f"{pid}\n".encode())
        stream.flush()
        _, status = os.waitpid(pid, 0)
        stream.write(f"{os.waitstatus_to_exitcode(status)}\n".encode())
        stream.flush()


def main() -> None:
    import transfer.run.plan  # noqa: F401

    gc.freeze()  # a collection in a fork would copy all that was imported
    words = serve(socket.socket(fileno=int(sys.argv[1])))
    if words is None:
        return
    sys.argv = words
    given = os.environ.get("PYTHONPATH", "")
    # Instead of the current folder, which `python -m` has there.
    sys.path[:1] = [str(Path(words[0]).resolve().parent), *filter(None, given.split(os.pathsep))]
    runpy.run_path(words[0], run_name="__main__")


if __name__ == "__main__":
    main()
