"""An all-reduce among all processes of a job, with a time limit: each task starts a process that takes part.

It needs torch, which a task must not import: the process beside it does (member.py).
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

START_SECONDS = 300  # until all have come: `import torch` from a cold network file system takes minutes
STEP_SECONDS = 60  # an exchange takes less than a second
_LEAVE_SECONDS = 30


@dataclass(frozen=True)
class Reduced:
    """The result of an all-reduce.

    Attributes:
        fault: why it failed.
        hosts: nodes that are to blame; all that are in question where they cannot be told apart.
        device: what it was computed on: "cuda" or "cpu".
        seconds: what one exchange took.
    """

    fault: str = ""
    hosts: tuple[str, ...] = ()
    device: str = ""
    seconds: float = 0.0

    @property
    def told(self) -> str:
        """The result in words."""
        size = "100 MB" if self.device == "cuda" else "1 MB"
        return f"an all-reduce of {size} ({self.device}) took {1000 * self.seconds:.0f} ms"


def reduce_together(
    ranks: Mapping[str, str], host: str, nodes: Sequence[str], device: str = "auto", start: float = START_SECONDS,
    step: float = STEP_SECONDS, python: Sequence[str] = (sys.executable,),
) -> Reduced:  # fmt: skip
    """Take part in an all-reduce of all ranks.

    Args:
        ranks: torchrun's variables; its port is the check's own.
        host: this node.
        nodes: of the job, in the order of the ranks.
        device: "auto" (CUDA where torch has it), "cpu".
        start: seconds until all have come.
        step: seconds that an exchange may take.
        python: the command that runs the tools, which may be one in a container.
    """
    command = [*python, "-m", "launcher.health.member", host, ",".join(nodes), device, str(start), str(step)]
    rank = ranks["RANK"]
    limit = start + 3 * step + _LEAVE_SECONDS
    try:
        process = subprocess.Popen(
            command, env=dict(ranks), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
    except OSError as error:  # no such container command on this node
        return Reduced(f"{host}: {python[0]}: cannot be run: {error.strerror}", (host,))
    try:
        said, _ = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        return Reduced(f"the all-reduce of rank {rank} did not end within {limit:.0f} s", (host,))
    finally:
        process.kill()
        process.communicate()
    lines = [line for line in said.splitlines() if line.strip()]
    try:
        found = json.loads(lines[-1])
        return Reduced(found["fault"], tuple(found["hosts"]), found["device"], found["seconds"])
    except (IndexError, ValueError, KeyError, TypeError):
        told = lines[-1].strip()[:300] if lines else f"no message, exit code {process.returncode}"
        return Reduced(f"the all-reduce of rank {rank} failed: {told}", (host,))
