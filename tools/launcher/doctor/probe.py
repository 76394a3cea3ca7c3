"""The work of the small job on each rank: what a node sees of a folder, of Python, of its GPUs and of the other ranks.

It is called like the task of a stage, by the same wrapper and the same submitit, and imports no torch itself. What it
finds goes into `rank_N.json` of the folder, after each step, so that a rank that hangs has told what it knew.
"""

import fcntl
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import submitit

from ..cluster import attempts, ranks
from ..health.all_reduce import reduce_together
from ..health.gpus import look_at_gpus
from ..health.start import check_port, sees_one

LOGIN_FILE, LOCK = "login.txt", "lock"
_LAG = 60  # seconds until a node must see what the login node wrote
_IMPORT = 300  # seconds for `import torch`


@dataclass(frozen=True)
class Probe:
    """A look at the nodes of a job."""

    folder: str
    token: str  # what the login node wrote
    gpus: int
    tasks: int
    locks: bool  # the login node holds the lock
    python: tuple[str, ...] = (sys.executable,)  # that runs the tools

    def __call__(self) -> None:
        environment = submitit.JobEnvironment()
        rank, first = environment.global_rank, environment.local_rank == 0
        ranks.forget_launchers(os.environ, on_slurm=True)
        found: dict[str, Any] = {"host": attempts.host(), "first": first, "lag": self._wait_for_login()}
        self._tell(rank, found)
        if first:
            found["lock"] = self._try_lock() if self.locks else ""
            found["python"] = self._python()
            visible = os.environ.get("CUDA_VISIBLE_DEVICES")
            gpus = look_at_gpus(1 if sees_one(visible) else self.gpus, visible) if self.gpus else None
            found["gpus"] = vars(gpus) if gpus else None
            self._tell(rank, found)
        if self.tasks > 1:
            variables = ranks.variables()
            own = {**os.environ, **variables, "MASTER_PORT": check_port(variables)}
            reduced = reduce_together(own, attempts.host(), environment.hostnames, python=self.python)
            found["reduced"] = {**vars(reduced), "told": reduced.told}
        self._tell(rank, {**found, "done": True})

    def _wait_for_login(self) -> float | None:
        """Return the seconds until the file of the login node is seen; None where it never is."""
        began = time.monotonic()
        while time.monotonic() - began < _LAG:
            try:
                os.listdir(self.folder)  # a network file system looks again
                if (Path(self.folder) / LOGIN_FILE).read_text() == self.token:
                    return time.monotonic() - began
            except OSError:
                pass
            time.sleep(0.2)
        return None

    def _try_lock(self) -> str:
        """Return "held" where the lock of the login node is felt here, "free" where it is not, or the fault."""
        try:
            with open(Path(self.folder) / LOCK, "a") as file:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return "held"
        except OSError as error:
            return error.strerror or str(error)
        return "free"

    def _python(self) -> dict[str, Any]:
        command = [*self.python, "-m", "launcher.health.python"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_IMPORT, check=False)
            found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
            return found
        except subprocess.TimeoutExpired:
            fault = f"its imports did not end within {_IMPORT} s"
        except (IndexError, ValueError):
            fault = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        except OSError as error:  # no such container command on this node
            fault = f"cannot be run: {error.strerror}"
        return {"executable": self.python[0], "faults": [fault]}

    def _tell(self, rank: int, found: dict[str, Any]) -> None:
        path = Path(self.folder) / f"rank_{rank}.json"
        unfinished = path.with_suffix(".unfinished")
        unfinished.write_text(json.dumps({**found, "time": time.time()}))
        unfinished.replace(path)
