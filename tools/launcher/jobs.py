"""The step from stages to jobs of a cluster, through submitit."""

import contextlib
import io
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import submitit
import submitit.helpers

from .cluster import local, setup, slurm
from .cluster.task import Task
from .record import Record
from .sharing import chosen_gpus
from .stages.stage import Stage

_LOCAL_MINUTES = 60 * 24 * 30  # submitit ends a local job after this; without a number, after two minutes
_NEVER = 1_000_000  # submitit's count of time-outs, which ends a job after three: ours are as many as it takes
# The batch shell must outlive a signal that reaches it, for srun ends with it.
_SETUP = ("trap : TERM INT USR1 USR2",)

_SRUN = (
    "--kill-on-bad-exit=1",  # a rank that fails would leave the others waiting for it
    "--wait=0",  # ranks above 0 may leave long before rank 0 has requeued the job; a site's WaitTime would end it
    "--export=ALL",  # where SBATCH_EXPORT=NONE is set srun passes nothing on, also not what `setup` exports
)


def command(stage: Stage, code: Path, config: Path | None) -> tuple[str, ...]:
    """Return the command line of a stage that runs the snapshot `code`, with the copy of its config."""
    file = ("--config-file", str(config)) if config else ()
    return (*tools_python(stage), str(code / "tools" / stage.options.tool), *file, *stage.arguments)


def task(stage: Stage, record: Record, words: tuple[str, ...]) -> Task:
    """Return the task that submitit pickles."""
    attempts = str(record.attempts(stage).resolve())
    once = stage.kind in ("scenes", "convert")
    saves = stage.kind in ("pretrain", "finetune")
    asked = stage.resources
    return Task(
        words,
        record.cwd,
        str(stage.result),
        once,
        saves,
        attempts,
        tasks=asked.tasks,
        folder=stage.folder,
        gpus=0 if asked.gpu_check is False else asked.gpus or 0,
        retries=asked.retries or 0,
        python=tools_python(stage),
        inputs=tuple(record.entries[name].stage.result for name in stage.after if name in record.entries),
    )


def tools_python(stage: Stage) -> tuple[str, ...]:
    """Return the command that runs the tools: this Python, or one in a container."""
    given = stage.resources.python
    return tuple(shlex.split(given)) if given else (sys.executable,)


class _Sbatch(submitit.SlurmExecutor):
    """The executor of submitit, whose file can be written where there is no SLURM."""

    @classmethod
    def affinity(cls) -> int:
        return 2


def slurm_parameters(stages: Sequence[Stage], needs: Sequence[str], token: str) -> dict[str, Any]:
    """Return the request to sbatch under submitit's names. What the user did not ask for is left to the cluster.

    Args:
        stages: one, or those of an array, which share their resources.
        needs: ids of the jobs that must have ended well before.
        token: for the job's comment.
    """
    stage, asked = stages[0], stages[0].resources
    more = {"requeue": True, "kill-on-invalid-dep": "yes", **(asked.sbatch or {}), **asked.gpu_options}
    # A cluster need not bind a process to its cores: it would have a thread for each core of the node.
    threads = [f"export OMP_NUM_THREADS=${{OMP_NUM_THREADS:-{asked.cpus}}}"] if asked.cpus else []
    cpus = [f"--cpus-per-task={asked.cpus}"] if asked.cpus else []  # since 22.05 srun no longer takes sbatch's
    parameters = {
        "job_name": f"{slurm.PREFIX}{(stage.array or stage.name).replace('/', '-')}",
        "comment": token,
        "nodes": asked.nodes or 1,
        "ntasks_per_node": asked.tasks_per_node,
        "cpus_per_task": asked.cpus,
        "mem": f"{round(asked.mem * 1024)}MB" if asked.mem else None,
        "partition": asked.partition,
        "account": asked.account,
        "qos": asked.qos,
        "constraint": asked.constraint,
        "signal_delay_s": asked.warning,
        "setup": [*_SETUP, *threads, *setup.batch_lines(asked.setup or (), asked.nodes or 1)],
        "stderr_to_stdout": True,
        "dependency": "afterok:" + ":".join(needs) if needs else None,
        "array_parallelism": stage.parallel or len(stages),
        "srun_args": [*_SRUN, *cpus, *(asked.srun or ())],
        "additional_parameters": {name: value for name, value in more.items() if value is not False},
    }
    asked_for = {name: value for name, value in parameters.items() if value is not None}
    # submitit's own defaults, five minutes and a key that is refused where keys are checked, are asked for by nobody.
    return {**asked_for, "time": asked.minutes, "wckey": None}


def sbatch_file(stages: Sequence[Stage], record: Record, code: Path, needs: Sequence[str]) -> str:
    """Return the file that would be handed to sbatch."""
    executor = _slurm_executor(stages, record, code, needs, token="(a token)")
    if len(stages) > 1:
        executor.parameters["map_count"] = len(stages)
    return str(executor._make_submission_file_text(executor._submitit_command_str, "dry_run"))


def submit_slurm(
    stages: Sequence[Stage], record: Record, code: Path, words: Sequence[tuple[str, ...]], needs: Sequence[str],
    token: str,
) -> list[str]:  # fmt: skip
    """Submit one stage, or several as an array; returns the id of each.

    Raises:
        LaunchError: sbatch refused, with its reason: QueueLimitError for want of room, SilentError without an answer.
    """
    executor = _slurm_executor(stages, record, code, needs, token)
    return _submit(executor, [task(stage, record, line) for stage, line in zip(stages, words, strict=True)])


def submit_call(stage: Stage, record: Record, code: Path, call: Callable[[], object], token: str) -> str:
    """Submit a job that calls something else than a stage's tool; returns its id.

    Raises:
        LaunchError: sbatch refused, with its reason.
    """
    return _submit(_slurm_executor((stage,), record, code, (), token), [call])[0]


def submit_local(stage: Stage, record: Record, code: Path, words: tuple[str, ...], threads: int | None = None) -> str:
    """Start a stage on this machine, in processes that outlive this one; returns its id.

    Args:
        threads: of each process, where the user has set no number of his own; None: what its tool takes.
    """
    logs, lines = record.logs(stage).resolve(), stage.resources.setup
    executor = submitit.LocalExecutor(logs, python=_python(code))
    executor.update_parameters(
        tasks_per_node=stage.resources.tasks_per_node,
        gpus_per_node=stage.resources.gpus or 0,
        timeout_min=_LOCAL_MINUTES,
        stderr_to_stdout=True,
        setup=[setup.local_line(lines, logs, local.controller(logs))] if lines else [],
    )
    chosen = {} if threads is None or "OMP_NUM_THREADS" in os.environ else {"OMP_NUM_THREADS": str(threads)}
    with chosen_gpus(stage.resources.gpus or 0) as gpus:
        # Past submitit's check, which knows numbers alone: CUDA takes UUIDs, too.
        executor.parameters["visible_gpus"] = gpus
        with submitit.helpers.environment_variables(**chosen), local.detached(record.logs(stage) / "controller.out"):
            return _submit(executor, [task(stage, record, words)])[0]


def run_here(stage: Stage, record: Record, code: Path, words: tuple[str, ...]) -> str:
    """Run a stage in the foreground, to look for a fault, its output to the terminal; returns its id."""
    path = os.pathsep.join([str(code), str(code / "tools"), *filter(None, [os.environ.get("PYTHONPATH")])])
    with submitit.helpers.environment_variables(PYTHONPATH=path):
        job = submitit.DebugExecutor(record.logs(stage).resolve()).submit(task(stage, record, words))
        with contextlib.suppress(SystemExit):  # the tool has said why
            job.results()
    return str(job.job_id)


def _slurm_executor(
    stages: Sequence[Stage], record: Record, code: Path, needs: Sequence[str], token: str
) -> submitit.SlurmExecutor:
    executor = _Sbatch(record.logs(stages[0]).resolve(), max_num_timeout=_NEVER, python=_python(code))
    executor.update_parameters(**slurm_parameters(stages, needs, token))
    return executor


def _submit(executor: Any, tasks: Sequence[Callable[[], object]]) -> list[str]:
    try:
        # submitit prints what sbatch says of a refusal, which is told here.
        with _outside_of_jobs(), contextlib.redirect_stderr(io.StringIO()):
            if len(tasks) == 1:
                return [executor.submit(tasks[0]).job_id]
            with executor.batch():
                submitted = [executor.submit(task) for task in tasks]
            return [job.job_id for job in submitted]
    except submitit.core.utils.FailedJobError as error:
        raise slurm.refusal(str(error)) from error


@contextlib.contextmanager
def _outside_of_jobs() -> Iterator[None]:
    """Hide, within a job, the variables that SLURM set for it, which the new job must not take over.

    Elsewhere the user's SBATCH_* defaults count; submitit's clean_env drops them, and SLURM_CONF too.
    """
    if "SLURM_JOB_ID" not in os.environ:
        yield
        return
    where = {name: os.environ[name] for name in ("SLURM_CONF",) if name in os.environ}
    with submitit.helpers.clean_env(), submitit.helpers.environment_variables(**where):
        yield


def _python(code: Path) -> str:
    """Return the start of a task's command line: signals blocked, modules from the snapshot."""
    start = code / "tools" / "launcher" / "cluster" / "block_signals.py"
    return shlex.join([sys.executable, "-I", "-S", str(start), str(code), sys.executable])
