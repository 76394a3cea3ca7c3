"""Start pretraining or fine-tuning on a SLURM cluster, or on this machine, through submitit: one task a process."""

import argparse
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import submitit
import submitit.helpers
import torch

import command
import finetune
from launch_resources import KINDS, NAMES, TEXTS, Resources, read
from pretrain import config
from transfer import engines
from transfer.errors import TransferError

EXAMPLES = """examples:
  # what would run, and nothing else
  python tools/launch.py pretrain --cluster slurm --resources configs/launch/gpu8.yaml --partition gpu --dry-run \\
      --config-file configs/pretrain/moco_v2_r50_200ep.yaml data.root IMAGES output_dir output/moco

  # two processes on this machine, without a cluster
  python tools/launch.py pretrain --cluster local --processes 2 \\
      --config-file configs/pretrain/moco_v2_r18_cpu.yaml data.root IMAGES output_dir output/moco model.bn_groups 1

  # fine-tuning here and now, to look for a fault
  python tools/launch.py finetune --cluster debug --config-file configs/transfer/voc_r18_fpn_cpu.yaml \\
      --dataset-root VOCdevkit --init random OUTPUT_DIR output/voc_random

All options but those above go to tools/train_moco.py or tools/finetune.py as they are.
"""

TOOLS = {"pretrain": "train_moco.py", "finetune": "finetune.py"}
CLUSTERS = ("slurm", "local", "debug")
FOLDER = "launch"  # submitit's files and the logs, in the run's folder
_LOCAL_MINUTES = 60 * 24 * 30  # submitit ends a local job after this; without a number, after two minutes
_SIGNAL_SECONDS = 120  # SLURM's warning before the time limit


@dataclass(frozen=True)
class Job:
    """A tool's command line. submitit calls it in every task: each becomes one rank of the run."""

    command: tuple[str, ...]
    tasks: int

    def __call__(self) -> None:
        environment = {**os.environ, **(_rank() if self.tasks > 1 else {})}
        done = subprocess.run(self.command, env=environment, check=False)
        if done.returncode:
            raise RuntimeError(f"{self.command[1]} ended with exit code {done.returncode}: its output says why")


def _rank() -> dict[str, str]:
    """torchrun's variables for this task. CUDA_VISIBLE_DEVICES stays as it is: the tools choose by local rank in it."""
    there = submitit.helpers.TorchDistributedEnvironment()
    local = submitit.JobEnvironment().cluster == "local"  # a machine need not be able to resolve its own name
    return {
        "MASTER_ADDR": "127.0.0.1" if local else there.master_addr,
        "MASTER_PORT": str(there.master_port),
        "RANK": str(there.rank),
        "WORLD_SIZE": str(there.world_size),
        "LOCAL_RANK": str(there.local_rank),
        "LOCAL_WORLD_SIZE": str(there.local_world_size),
    }


def main() -> None:
    arguments, rest = parse()
    resources = read(arguments.resources, {name: getattr(arguments, name) for name in NAMES})
    folder = (check_pretrain if arguments.stage == "pretrain" else check_finetune)(rest)
    check_cluster(arguments.cluster, resources, folder, arguments.dry_run)
    job = Job((sys.executable, str(Path(__file__).resolve().with_name(TOOLS[arguments.stage])), *rest), resources.tasks)
    print(f"command     {shlex.join(job.command)}")
    print(f"cluster     {arguments.cluster}: {resources.tasks} process(es), one task each")
    for name, value in parameters(arguments.cluster, arguments.stage, resources).items():
        print(f"            {name} {value}")
    print(f"run folder  {folder}", flush=True)
    if not arguments.dry_run:
        submit(
            job, arguments.cluster, parameters(arguments.cluster, arguments.stage, resources), folder, arguments.wait
        )


def parse() -> tuple[argparse.Namespace, list[str]]:
    """Our options, and the rest for the tool."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="launch.py {pretrain,finetune} --cluster {slurm,local,debug} [resources] OPTIONS OF THE TOOL",
        allow_abbrev=False,  # what is not ours word for word belongs to the tool
    )
    parser.add_argument("stage", choices=TOOLS, help="tools/train_moco.py or tools/finetune.py")
    parser.add_argument("--cluster", choices=CLUSTERS, required=True, help="local: processes here; debug: this process")
    parser.add_argument("--dry-run", action="store_true", help="check everything, print the plan, start nothing")
    parser.add_argument("--wait", action="store_true", help="return when the job has ended; exit code 1 if it failed")
    parser.add_argument(
        "--resources", type=Path, metavar="YAML", help="the options below from a file (configs/launch/)"
    )
    types = {"int": int, "float": float, "str": str}
    for name in NAMES:
        parser.add_argument(f"--{name}", type=types[KINDS[name]], metavar=KINDS[name].upper(), help=TEXTS[name])
    return parser.parse_known_args()


def check_pretrain(rest: Sequence[str]) -> Path:
    """Check the settings of a pretraining run; returns its folder."""
    parser = argparse.ArgumentParser(prog="launch.py pretrain", allow_abbrev=False)
    parser.add_argument("--config-file", metavar="YAML", required=True)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("settings", nargs="*", metavar="KEY VALUE")
    arguments = parser.parse_intermixed_args(rest)
    return Path(config.load(arguments.config_file, arguments.settings).output_dir)


def check_finetune(rest: Sequence[str]) -> Path:
    """Check the configuration of a fine-tuning run; returns its folder."""
    arguments = finetune.parser().parse_intermixed_args(rest)
    if arguments.num_gpus != 1:
        raise TransferError(
            f"--num-gpus {arguments.num_gpus}: here every process is a task; give --gpus or --processes"
        )
    return Path(engines.load(arguments.engine).load_config(arguments.config_file, arguments.overrides).OUTPUT_DIR)


def check_cluster(cluster: str, resources: Resources, folder: Path, dry_run: bool) -> None:
    """Refuse what this cluster cannot do.

    Raises:
        TransferError: every fault.
    """
    faults = []
    if cluster != "slurm" and (resources.nodes or 1) > 1:
        faults.append(f"--nodes {resources.nodes}: --cluster {cluster} has this machine alone")
    if cluster == "debug" and resources.tasks > 1:
        faults.append(f"{resources.tasks} processes: --cluster debug runs one, in this process; use --cluster local")
    if cluster == "local" and (resources.gpus or 0) > torch.cuda.device_count():
        faults.append(f"--gpus {resources.gpus}: this machine has {torch.cuda.device_count()}")
    if cluster == "slurm":
        if not dry_run and not shutil.which("sbatch"):
            faults.append("--cluster slurm: there is no sbatch on this machine; use --cluster local or a login node")
        if not str(folder.resolve()).isprintable() or "%" in str(folder.resolve()):
            faults.append(f"{str(folder)!r}: SLURM takes no % and no line break in the folder of a run")
    if faults:
        raise TransferError("\n".join(faults))


def parameters(cluster: str, stage: str, resources: Resources) -> dict[str, Any]:
    """The same under submitit's names. What was not asked for is left to the cluster."""
    asked = {
        "name": f"moco-{stage}",
        "nodes": resources.nodes or 1,
        "tasks_per_node": resources.tasks_per_node,
        "gpus_per_node": resources.gpus,
    }
    if cluster == "slurm":
        asked |= {
            "cpus_per_task": resources.cpus,
            "mem_gb": resources.mem,
            "timeout_min": resources.minutes,
            "slurm_partition": resources.partition,
            "slurm_account": resources.account,
            "slurm_qos": resources.qos,
            "slurm_constraint": resources.constraint,
            "slurm_signal_delay_s": _SIGNAL_SECONDS,
        }
    else:
        asked["timeout_min"] = _LOCAL_MINUTES
    return {name: value for name, value in asked.items() if value is not None}


def submit(job: Job, cluster: str, asked: dict[str, Any], folder: Path, wait: bool) -> None:
    """Submit, print the job's id and log, and with `wait` (debug always does) see it through."""
    logs = folder / FOLDER
    logs.mkdir(parents=True, exist_ok=True)
    executor = submitit.AutoExecutor(folder=logs, cluster=cluster)
    executor.update_parameters(**asked)
    try:
        with submitit.helpers.clean_env():  # a job started from within a job takes no rank from it
            submitted = executor.submit(job)
    except submitit.core.utils.FailedJobError as error:
        raise TransferError(f"sbatch refused the job: {error}") from error
    print(f"job id      {submitted.job_id}")
    if cluster != "debug":
        print(f"log         {submitted.paths.stdout}", flush=True)
    if (wait or cluster == "debug") and submitted.exception() is not None:
        where = "above" if cluster == "debug" else f"in {submitted.paths.stdout} and {submitted.paths.stderr}"
        print(f"error: job {submitted.job_id} failed; its output stands {where}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    command.run(main)
