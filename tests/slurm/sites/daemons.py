"""Processes that die with the one that started them, and the end of those that an earlier start left."""

import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

NAMES = ("munged", "mariadbd", "slurmdbd", "slurmctld", "slurmd", "unshare")
MARK = "MOCO_SLURM_FOLDER"  # in the environment of every daemon: whose it is
# A node: a host name and processes of its own, which end with their first one, as the processes of a machine do.
NAMESPACES = ("unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc")


class Daemon:
    """A process in the foreground, in a session of its own, with its output in `folder`/log/<name>.out.

    The kernel ends it when the process that started it ends, even by SIGKILL.
    """

    def __init__(self, name: str, command: tuple[str, ...], folder: Path, environment: Mapping[str, str]) -> None:
        self.name, self.folder = name, folder
        with open(folder / "log" / f"{name}.out", "ab") as output:
            self.process = subprocess.Popen(
                ("setpriv", "--pdeathsig", "KILL", *command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C in the terminal is for the one who started it
                env={**environment, MARK: str(folder)},
            )

    def running(self) -> bool:
        return self.process.poll() is None

    def stop(self, seconds: float = 10) -> None:
        """SIGTERM, and SIGKILL to what is still there after so many seconds."""
        self.process.terminate()
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()

    @property
    def inner(self) -> int:
        """The process that it is about: the first one of a node, else its own."""
        return (*_children(self.process.pid), self.process.pid)[0]

    def kill(self) -> None:
        """SIGKILL; for a node to every process in it. Returns when all are gone."""
        # `unshare` waits for the first process of the node, whose end the kernel delays until the others have ended.
        os.kill(self.inner, signal.SIGKILL)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def log(self, lines: int = 15) -> str:
        """The end of what it wrote, to its log and to its output."""
        found = [self.folder / "log" / f"{self.name}.{kind}" for kind in ("log", "out")]
        texts = [f"{path}:\n" + "\n".join(_tail(path, lines)) for path in found if path.exists()]
        return "\n".join(texts)


def end_leftovers(folder: Path) -> list[str]:
    """Kill the daemons of this folder that an earlier, killed start may have left; returns their names."""
    found = [
        (int(entry.name), name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and (name := _daemon_of(entry, folder))
    ]
    for pid, _ in found:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and any(_daemon_of(Path(f"/proc/{pid}"), folder) for pid, _ in found):
        time.sleep(0.02)
    return [name for _, name in found]


def free_ports(count: int) -> list[int]:
    """TCP ports of this machine that nobody listens at, below those that the kernel gives to connections."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    candidates = random.SystemRandom().sample(range(min(10000, lowest // 2), lowest), 200)
    ports = [port for port in candidates if _free(port)][:count]
    if len(ports) < count:
        raise RuntimeError(f"no {count} free TCP ports below {lowest} on this machine")
    return ports


def _free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("0.0.0.0", port))
        except OSError:
            return False
    return True


def _daemon_of(entry: Path, folder: Path) -> str | None:
    """The name of the process in /proc if it is a daemon of this folder."""
    try:
        name = os.path.basename((entry / "cmdline").read_bytes().split(b"\0")[0]).decode(errors="replace")
        ours = f"{MARK}={folder}".encode() in (entry / "environ").read_bytes().split(b"\0")
    except OSError:  # it has ended
        return None
    return name if ours and name in NAMES else None


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _tail(path: Path, lines: int) -> list[str]:
    return path.read_text(errors="replace").splitlines()[-lines:]
