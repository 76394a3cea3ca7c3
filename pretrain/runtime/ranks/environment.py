"""The world that a launcher names in environment variables: torchrun's own, or those of SLURM's srun."""

import pathlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

EPHEMERAL = pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range")
TORCHRUN = ("WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "RANK")
SLURM = ("SLURM_STEP_NUM_TASKS", "SLURM_STEP_NODELIST", "SLURM_JOB_ID", "SLURM_PROCID")


class LaunchFault(Exception):  # noqa: N818 (the errors for the user are in errors.py)
    """Processes that cannot work together as they were started; the message is for the user."""


class StrangerFault(LaunchFault):
    """The port is another program's or another run's, which must not hear of this process."""


class OtherFailedFault(LaunchFault):
    """Another process has failed, and says so itself."""


@dataclass(frozen=True)
class World:
    """The processes of one run, seen from one of them.

    Args:
        rank: position of this process among all, from 0.
        size: number of processes, at least 2.
        local_rank, local_size: the same among those of this machine.
        host, port: where rank 0, or torchrun, answers.
        hosted: this process is to answer there.
        name: of the run, and of its attempt where torchrun starts the processes again.
        source: the variables that say so to all processes, for messages.
        interactive: they are those of a task with a terminal (`srun --pty`).
    """

    rank: int
    size: int
    local_rank: int
    local_size: int
    host: str
    port: int
    hosted: bool
    name: str
    source: str
    interactive: bool = False


def count_launched(variables: Mapping[str, str]) -> int:
    """Return the processes of one run that torchrun or srun has started; 1 where this process is the only one."""
    return _number(variables, "WORLD_SIZE" if variables.get("WORLD_SIZE") else "SLURM_STEP_NUM_TASKS", 1)


def read_world(variables: Mapping[str, str]) -> World | None:
    """Return the world that the variables name; None where this process is the only one.

    Raises LaunchFault for variables that contradict each other.
    """
    if count_launched(variables) < 2:
        return None
    slurm = "RANK" not in variables and not variables.get("WORLD_SIZE")
    named = {**variables, **(slurm_environment(variables) if slurm else {})}
    missing = [name for name in TORCHRUN if not named.get(name)]
    if missing:
        raise LaunchFault(f"WORLD_SIZE {named['WORLD_SIZE']} without {', '.join(missing)}: {_ALONE}")
    rank, size, port = (_number(named, name) for name in ("RANK", "WORLD_SIZE", "MASTER_PORT"))
    if not 0 <= rank < size:
        raise LaunchFault(f"RANK {rank}: with WORLD_SIZE {size} it is to be from 0 to {size - 1}")
    if not 0 < port < 65536:
        raise LaunchFault(f"MASTER_PORT {port}: is to be from 1 to 65535")
    return World(
        rank=rank,
        size=size,
        local_rank=_number(named, "LOCAL_RANK", 0),
        local_size=_number(named, "LOCAL_WORLD_SIZE", 1),
        host=named["MASTER_ADDR"],
        port=port,
        hosted=rank == 0 and named.get("TORCHELASTIC_USE_AGENT_STORE") != "True",
        name=_name_run(variables, slurm),
        source=", ".join(f"{name}={variables[name]}" for name in (SLURM if slurm else TORCHRUN)[:3]),
        interactive=slurm and "SLURM_PTY_PORT" in variables,
    )


def slurm_environment(slurm: Mapping[str, str]) -> dict[str, str]:
    """Return torchrun's variables, from those that srun gives each task (sbatch by itself gives no SLURM_STEP_*)."""
    missing = [name for name in (*SLURM, "SLURM_LOCALID", "SLURM_STEP_TASKS_PER_NODE") if not slurm.get(name)]
    if missing:
        raise LaunchFault(f"srun's variables are incomplete, {', '.join(missing)} is not set: {_ALONE}")
    # A port of its own: two jobs on one host must not join each other.
    key = _number(slurm, "SLURM_JOB_ID") * 31 + _number(slurm, "SLURM_STEP_ID", 0)
    tasks = tasks_per_node(slurm["SLURM_STEP_TASKS_PER_NODE"])
    return {
        "MASTER_ADDR": first_host(slurm["SLURM_STEP_NODELIST"]),
        "MASTER_PORT": str(port_for(key)),
        "RANK": slurm["SLURM_PROCID"],
        "WORLD_SIZE": slurm["SLURM_STEP_NUM_TASKS"],
        "LOCAL_RANK": slurm["SLURM_LOCALID"],
        "LOCAL_WORLD_SIZE": str(tasks[min(_number(slurm, "SLURM_NODEID", 0), len(tasks) - 1)]),
    }


def first_host(listed: str) -> str:
    """Return the first host of SLURM's list: "gpu07-ib" of "gpu[07-09,12]-ib,login1", "r1c3" of "r[1-2]c[3,5]"."""
    host = re.match(r"((?:[^,\[\]]|\[[^\[\]]*\])+)(,|$)", listed.strip())  # up to a comma outside brackets
    found = re.sub(r"\[(\d+)[^\]]*\]", r"\1", host[1]) if host else ""
    if not found or "[" in found:
        raise LaunchFault(f"SLURM_STEP_NODELIST: '{listed}' names no host")
    return found


def tasks_per_node(listed: str) -> list[int]:
    """Return the tasks of each node of SLURM's list: [3, 3, 2] of "3(x2),2"."""
    found = re.findall(r"(\d+)(?:\(x(\d+)\))?(?:,|$)", listed)
    if not found:
        raise LaunchFault(f"SLURM_STEP_TASKS_PER_NODE: '{listed}' names no number of tasks")
    return [int(tasks) for tasks, times in found for _ in range(int(times or 1))]


def port_for(key: int, ephemeral: str | None = None) -> int:
    """Return a port for a job's number that no outgoing connection has, which would keep the job from starting.

    Args:
        key: differs between the jobs of a machine.
        ephemeral: first and last port that the system gives to outgoing connections; None: as Linux says.
    """
    if ephemeral is None:
        ephemeral = EPHEMERAL.read_text() if EPHEMERAL.exists() else "32768 60999"
    lowest, highest = map(int, ephemeral.split())
    if lowest >= 4096:
        first, end = min(20000, lowest // 2), min(lowest, 40000)
    elif highest < 64000:
        first, end = highest + 1, 65536
    else:  # nearly all are given to connections
        first, end = 20000, 32768
    return first + key % (end - first)


def _name_run(variables: Mapping[str, str], slurm: bool) -> str:
    torchrun = variables.get("TORCHELASTIC_RUN_ID")
    if torchrun:
        return f"{torchrun}/{variables.get('TORCHELASTIC_RESTART_COUNT', '0')}"
    step = f".{variables.get('SLURM_STEP_ID', '0')}" if slurm else ""
    return variables.get("SLURM_JOB_ID", "") + step


_ALONE = "torchrun and srun set them; unset what an earlier session left to run one process"


def _number(variables: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = variables.get(name) or ("" if default is None else str(default))
    try:
        return int(text)
    except ValueError:
        raise LaunchFault(f"{name} '{text}': is to be a whole number") from None
