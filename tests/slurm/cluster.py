"""A real SLURM with two nodes on this machine, in a folder of its own: `python -m tests.slurm.cluster FOLDER`.

Every node has a host name, mounts and processes of its own. Nothing of it outlives the process that started it.
Needs root and the packages of packages.py.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType

from tests.slurm import packages
from tests.slurm.sites import configuration
from tests.slurm.sites.configuration import ACCOUNT, PLAIN, WCKEY, Site
from tests.slurm.sites.daemons import NAMESPACES, Daemon, end_leftovers, free_ports

START_SECONDS = 60
_FINAL = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT"}  # a job with --requeue leaves the other states again
_WITHOUT_LOCKS = Path(__file__).parent / "sites" / "without_locks.py"
_NODE = """\
mount --bind "$1/etc/hosts" /etc/hosts && mount -t tmpfs tmpfs /dev/shm && hostname "$2" || exit 1
"${@:3}" slurmd -D -N "$2" &  # bash stays as the node's first process, which must reap what loses its parent
wait
"""


class Cluster:
    """Two nodes, `node1` and `node2`, with 8 CPUs and 2 made-up GPUs each.

    Partitions: `main` (a job that is preempted has 20 seconds), `low0` (none), `high` (preempts the other two).

    Args:
        folder: for its files; on this machine, with a short path.
        site: what it demands of its users.

    Raises:
        RuntimeError: it does not start; with the end of the log that says why.
    """

    def __init__(self, folder: Path, site: Site = PLAIN) -> None:
        self.folder, self.site = folder.resolve(), site
        self.environment = {"SLURM_CONF": f"{self.folder}/etc/slurm.conf", **site.environment}
        self.prefix = () if site.locks else (sys.executable, str(_WITHOUT_LOCKS))  # of a user's command
        self._services: list[Daemon] = []
        self._nodes: dict[str, Daemon] = {}

    def __enter__(self) -> "Cluster":
        try:
            self._start()
        except BaseException:  # an interrupt, too, must leave no process
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def run(self, *command: str, timeout: float = 30) -> str:
        """What a command of SLURM prints. RuntimeError where it fails or takes longer than so many seconds."""
        try:
            done = subprocess.run(
                command, env={**os.environ, **self.environment}, capture_output=True, text=True, timeout=timeout
            )
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"{' '.join(command)}: no answer in {timeout} s") from None
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def states(self, job: str) -> dict[str, str]:
        """The state of a job, by its id, or of each task of a job array; also of those that have ended."""
        lines = self.run("squeue", "--noheader", "--array", "--states=all", "--jobs", job, "--format=%i %T")
        return dict(line.split() for line in lines.splitlines())

    def wait(self, job: str, states: Iterable[str], seconds: float = 60) -> dict[str, str]:
        """Until the job, or every task of an array, is in one of the states. Returns these.

        Raises:
            RuntimeError: it is not after so many seconds, or never will be; with what SLURM and the job itself say.
        """
        wanted, deadline = set(states), time.monotonic() + seconds
        while not (now := self.states(job)) or not set(now.values()) <= wanted:
            if time.monotonic() > deadline or (now and set(now.values()) <= _FINAL):
                shown = self.run("scontrol", "show", "job", job)
                asked = f"job {job} is {now}, waited for {sorted(wanted)} up to {seconds} s"
                raise RuntimeError("\n".join([asked, shown, *_last_words(shown)]))
            time.sleep(0.3)  # squeue is 5 ms of a processor, and eight runs may be waited for at once
        return now

    def kill_node(self, name: str) -> None:
        """The power goes: every process of the node is killed, and the controller is informed that it is down."""
        self._nodes.pop(name).kill()
        self.run("scontrol", "update", f"nodename={name}", "state=down", "reason=test")

    def revive_node(self, name: str) -> None:
        """Start a node that was killed, and wait until it takes jobs."""
        self._start_node(name)
        self.run("scontrol", "update", f"nodename={name}", "state=resume")
        self._await(lambda: name in self.usable(), self._nodes[name])

    def clear(self) -> None:
        """Cancel every job, start the nodes that were killed, and wait until both are idle."""
        self.run("scancel", "--user=root")
        for name in set(configuration.NODES) - set(self._nodes):
            self.revive_node(name)
        self._await(lambda: self.usable("idle") == set(configuration.NODES), self._services[-1])

    def account(self, *words: str) -> None:
        """What an administrator does to accounts, limits and wckeys: `sacctmgr WORDS`, without a question."""
        self.run("sacctmgr", "--immediate", *words)

    @contextlib.contextmanager
    def stale(self, node: str, folder: Path) -> Iterator[None]:
        """Within it, the node goes on seeing the folder as it is now, as network file systems may for a minute.

        Others see what is new in it, and the node when it ends. Until then the node can write nothing there.
        """
        with tempfile.TemporaryDirectory(prefix="stale-", dir=self.folder / "run") as seen:
            shutil.copytree(folder, seen, symlinks=True, dirs_exist_ok=True)
            self._in(node, "mount", "--bind", "--options=ro", seen, str(folder))
            try:
                yield
            finally:
                self._in(node, "umount", "--lazy", str(folder))

    @contextlib.contextmanager
    def silent_controller(self) -> Iterator[None]:
        """Within it, SLURM does not answer, and no job is lost."""
        controller = next(service for service in self._services if service.name == "slurmctld")
        os.kill(controller.process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(controller.process.pid, signal.SIGCONT)

    def usable(self, *states: str) -> set[str]:
        """The nodes that take jobs or have some, or those in one of the states."""
        lines = self.run("sinfo", "--noheader", "--Node", "--partition=main", "--format=%N %T")
        found = dict(line.split() for line in lines.splitlines())
        wanted = states or ("idle", "mixed", "allocated", "completing")
        return {name for name, state in found.items() if state in wanted}

    def stop(self) -> None:
        """Cancel all jobs and end every process. May be called twice."""
        if self._nodes:
            # Not by `run`: a controller that does not answer must not keep the rest alive.
            subprocess.run(
                ["timeout", "10", "scancel", "--user=root"], env={**os.environ, **self.environment}, check=False
            )
        for node in self._nodes.values():
            node.kill()
        for service in reversed(self._services):
            service.stop()
        self._nodes, self._services = {}, []

    def _start(self) -> None:
        if reason := packages.obstacle():
            raise RuntimeError(reason)
        if len(str(self.folder)) > 80 or any(sign.isspace() for sign in str(self.folder)):
            raise RuntimeError(f"{self.folder}: SLURM takes no blanks here, and the kernel no socket's path over 107")
        self._clear()
        controller, accounting, *nodes = free_ports(2 + len(configuration.NODES))
        configuration.write(self.folder, self.site, controller, accounting, (nodes[0], nodes[1]))
        self._start_munge()
        if self.site.accounting:
            self._start_accounting(accounting)
        service = self._serve("slurmctld", "slurmctld", "-D")
        for name in configuration.NODES:
            self._start_node(name)
        self._await(lambda: self.usable() == set(configuration.NODES), service)

    def _clear(self) -> None:
        """A fresh folder. One of an earlier cluster is removed, with the processes that it may have left."""
        if self.folder.exists() and any(self.folder.iterdir()):
            if not (self.folder / "etc" / "slurm.conf").exists():
                raise RuntimeError(f"{self.folder} has files that are none of a SLURM's; name a new folder")
            end_leftovers(self.folder)
            shutil.rmtree(self.folder)
        parts = ("etc", "munge", "ctld", "log", "run", "db", *(f"spool/{name}" for name in configuration.NODES))
        for part in parts:
            (self.folder / part).mkdir(parents=True, mode=0o755)
        (self.folder / "munge").chmod(0o711)

    def _start_munge(self) -> None:
        munge = self.folder / "munge"
        (munge / "munge.key").touch(mode=0o600)
        (munge / "munge.key").write_bytes(os.urandom(1024))
        files = {"key-file": munge / "munge.key", "socket": munge / "munge.socket", "seed-file": munge / "seed"}
        files |= {"pid-file": self.folder / "run/munged.pid", "log-file": self.folder / "log/munged.log"}
        service = self._serve(
            "munged", "munged", "--foreground", "--force", *(f"--{key}={path}" for key, path in files.items())
        )
        self._await((munge / "munge.socket").exists, service)

    def _start_accounting(self, port: int) -> None:
        """The database and slurmdbd: without them the state of a job that has ended is unknown to clients."""
        data, socket, temporary = (self.folder / "db" / name for name in ("data", "sock", "tmp"))
        temporary.mkdir()  # MariaDB removes what looks like its own as it starts: another's, in a folder of several
        self.run(
            *("mariadb-install-db", "--no-defaults", "--user=root", "--auth-root-authentication-method=normal"),
            *("--skip-test-db", f"--datadir={data}", f"--tmpdir={temporary}"),
            timeout=START_SECONDS,
        )
        service = self._serve(
            *("mariadbd", "mariadbd", "--no-defaults", "--user=root", f"--datadir={data}", f"--socket={socket}"),
            *(f"--pid-file={self.folder}/run/mariadbd.pid", "--skip-networking", "--innodb-buffer-pool-size=64M"),
            *("--innodb-flush-log-at-trx-commit=0", "--innodb-lock-wait-timeout=900"),
            f"--tmpdir={temporary}",
            f"--log-error={self.folder}/log/mariadbd.log",
        )
        self._await(socket.exists, service)
        service = self._serve("slurmdbd", "slurmdbd", "-D", MYSQL_UNIX_PORT=str(socket))
        self._await(lambda: self.run("sacctmgr", "--noheader", "show", "stats", timeout=5), service)
        self.account("add", "cluster", "fake")
        if self.site.enforced:
            limit = [] if self.site.max_jobs is None else [f"MaxSubmitJobs={self.site.max_jobs}"]
            self.account("add", "account", ACCOUNT)
            self.account("add", "user", "root", f"account={ACCOUNT}", f"defaultaccount={ACCOUNT}", *limit)
            self.account("add", "user", "root", f"wckey={WCKEY}")
            self.account("modify", "user", "root", "set", f"defaultwckey={WCKEY}")

    def _start_node(self, name: str) -> None:
        command = (*NAMESPACES, "bash", "-c", _NODE, "bash", str(self.folder), name, *self.prefix)
        self._nodes[name] = Daemon(name, command, self.folder, {**os.environ, **self.environment})

    def _in(self, node: str, *command: str) -> None:
        """A command that sees the node's mounts, and its processes, of which /proc must tell it."""
        self.run("nsenter", f"--target={self._nodes[node].inner}", "--mount", "--pid", *command)

    def _serve(self, name: str, *command: str, **environment: str) -> Daemon:
        self._services.append(Daemon(name, command, self.folder, {**os.environ, **self.environment, **environment}))
        return self._services[-1]

    def _await(self, ready: Callable[[], object], blamed: Daemon) -> None:
        """Until `ready()`, which may raise a RuntimeError until then.

        Raises:
            RuntimeError: a daemon has ended, or it took too long; with the log of that daemon, else of the blamed one.
        """
        deadline, refusal = time.monotonic() + START_SECONDS, ""
        while True:
            try:
                if ready():
                    return
            except RuntimeError as error:
                refusal = f"{error}\n"
            ended = [daemon for daemon in (*self._services, *self._nodes.values()) if not daemon.running()]
            if ended:
                raise RuntimeError(f"SLURM does not start: {ended[0].name} has ended\n{ended[0].log()}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"SLURM is not ready after {START_SECONDS} s\n{refusal}{blamed.log()}")
            time.sleep(0.05)


def _last_words(shown: str) -> Iterator[str]:
    """The ends of the logs of all tasks of the jobs that `scontrol show job` has shown."""
    for first in dict.fromkeys(re.findall(r"StdOut=(\S+)_0_log\.out", shown)):
        for log in sorted(Path(first).parent.glob(f"{Path(first).name}_*_log.out")):
            yield f"{log.name}: {log.read_text(errors='replace')[-3000:]}"


def _stop_in_order(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python -m tests.slurm.cluster FOLDER")
    signal.signal(signal.SIGTERM, _stop_in_order)
    try:
        with Cluster(Path(sys.argv[1])) as cluster:
            for name, value in cluster.environment.items():
                print(f"export {name}={value}", flush=True)
            print("in other shells; Ctrl-C here stops it", file=sys.stderr, flush=True)
            signal.pause()
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
    except RuntimeError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
