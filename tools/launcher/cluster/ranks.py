"""The variables by which a task's tool finds the others of its job, and only those."""

import os
from collections.abc import MutableMapping

import submitit

from pretrain.runtime.ranks.environment import port_for, slurm_environment

# What torchrun, Kubernetes' operators and SLURM's srun tell a process of the others that were started with it.
_LAUNCHERS = {
    *("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "NODE_RANK"),
    *("GROUP_RANK", "GROUP_WORLD_SIZE", "ROLE_NAME", "ROLE_RANK", "ROLE_WORLD_SIZE"),
}
_PREFIXES = ("TORCHELASTIC_", "PET_")
_SRUN = ("SLURM_STEP_", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_NTASKS", "SLURM_NPROCS", "SLURM_PTY_")


def forget_launchers(environment: MutableMapping[str, str], on_slurm: bool) -> None:
    """Drop the variables of the shell that submitted the job, where a launcher had started that: a job has its own.

    With them a tool would wait for processes that are none of its job's.

    Args:
        environment: of this process.
        on_slurm: srun has started it, and set what it sets.
    """
    prefixes = _PREFIXES if on_slurm else (*_PREFIXES, *_SRUN)
    for name in [name for name in environment if name in _LAUNCHERS or name.startswith(prefixes)]:
        del environment[name]


def variables() -> dict[str, str]:
    """Return torchrun's variables for this task, one of several; on SLURM those that the tools make of srun's own.

    CUDA_VISIBLE_DEVICES stays as it is: the tools choose by local rank in it.
    """
    there = submitit.JobEnvironment()
    if there.cluster == "slurm":
        return slurm_environment(os.environ)
    return {
        "MASTER_ADDR": "127.0.0.1",  # a machine need not be able to resolve its own name
        "MASTER_PORT": str(port_for(int("".join(filter(str.isdigit, there.job_id))))),  # "DEBUG_123" in the foreground
        "RANK": str(there.global_rank),
        "WORLD_SIZE": str(there.num_tasks),
        "LOCAL_RANK": str(there.local_rank),
        "LOCAL_WORLD_SIZE": str(there.num_tasks),
    }
