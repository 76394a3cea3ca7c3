"""The shell lines of the resource `setup`: bash runs each once on every node, and the job fails where one does."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from .logs import log_path

_FAILED = (
    "setup_failed() { printf 'error: setup failed on %s, exit code %s, in line %s: %s\\n' "
    '"${SLURMD_NODENAME:-$HOSTNAME}" "$@"; exit 1; }'
)
# A node's signals are for the tools: what prepares a node ends by itself, or is killed.
_DEAF = "trap '' TERM USR1 USR2"


def batch_lines(lines: Sequence[str], nodes: int) -> list[str]:
    """Return what runs in SLURM's batch shell: the lines themselves, for the first node and for what they export.

    Where there are more nodes, a step runs them on each of the others.
    """
    if not lines:
        return []
    return [*_run_each(lines), *([_step_elsewhere(lines, nodes - 1)] if nodes > 1 else [])]


def local_line(lines: Sequence[str], folder: Path, controller: Sequence[str]) -> str:
    """Return a line for sh, whose process becomes bash, then the job's controller; its id remains the job's.

    What the lines print goes to the log of rank 0, as on SLURM.

    Args:
        folder: of the stage's logs.
    """
    log = f"{shlex.quote(f'{folder}/')}{log_path(Path(), '$$', 0)}"
    # Without a shell above it, the controller takes its own process id for the job's.
    as_one = f"SUBMITIT_LOCAL_WITH_SHELL= exec {shlex.join(controller)}"
    script = ["{", *_run_each(lines), f"}} >> {log} 2>&1", as_one]
    return "exec bash -c " + shlex.quote("\n".join(script))


def _run_each(lines: Sequence[str]) -> list[str]:
    """Return lines of bash that run each line in this shell, and end it, with a message, where one fails."""
    quoted = [shlex.quote(line) for line in lines]
    return [_FAILED, *(f"eval -- {line} || setup_failed $? {n} {line}" for n, line in enumerate(quoted, start=1))]


def _step_elsewhere(lines: Sequence[str], others: int) -> str:
    script = shlex.quote("\n".join([_DEAF, *_run_each(lines)]))
    size = f"--nodes={others} --ntasks={others} --ntasks-per-node=1"
    return f"srun --relative=1 {size} --kill-on-bad-exit=1 --wait=0 --export=ALL bash -c {script} || exit 1"
