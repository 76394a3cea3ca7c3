"""Small runs of tools/launch.py on the SLURM of the tests: started, watched, disturbed, compared."""

import json
import math
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from fault_injection.job import differences, different
from tests.conftest import ROOT
from tests.slurm.cluster import Cluster
from tests.support.waiting import wait_until

EPOCHS, STEPS, SAVE_EVERY = 2, 30, 6  # of a pretraining run
BESIDE_OTHERS = 600  # seconds that a run may take, or may wait, beside as many others as the nodes hold
ITERATIONS, SAVE_EVERY_ITERATION, ROW_EVERY = 45, 15, 20  # of a fine-tuning run


def launch(
    cluster: Cluster, *words: object, code: Path = ROOT, **environment: str
) -> "subprocess.CompletedProcess[str]":
    """`python tools/launch.py WORDS`, as a user of this cluster types it in the folder of the code."""
    command = [*cluster.prefix, sys.executable, "tools/launch.py", *map(str, words)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", **cluster.environment, **environment}
    return subprocess.run(command, cwd=code, env=env, capture_output=True, text=True, timeout=BESIDE_OTHERS)


def submit(cluster: Cluster, *words: object, code: Path = ROOT, **environment: str) -> dict[str, str]:
    """Launch; returns the id of the job of each stage that was submitted."""
    done = launch(cluster, *words, code=code, **environment)
    if done.returncode:
        raise RuntimeError(f"launch.py ends with {done.returncode}: {done.stdout}{done.stderr}")
    return dict(re.findall(r"^submitted +(\S+): job (\S+)$", done.stdout, re.MULTILINE))


def submit_held(cluster: Cluster, *words: object) -> dict[str, str]:
    """Launch jobs that wait for `scontrol release`: one that starts at once may end before launch.py has returned."""
    return submit(cluster, words[0], "--resources", ROOT / "tests/slurm/held.yaml", *words[1:])


def status(cluster: Cluster, run: Path) -> dict[str, dict[str, Any]]:
    """`launch.py status RUN --json`, by stage."""
    done = launch(cluster, "status", run, "--json")
    if done.returncode:
        raise RuntimeError(f"launch.py status ends with {done.returncode}: {done.stdout}{done.stderr}")
    return {row["stage"]: row for row in json.loads(done.stdout)}


def pretraining(images: Path, output: Path, epochs: int = EPOCHS) -> list[object]:
    """Settings of a run of 15 steps an epoch with 120 images, a row of metrics.json a step."""
    settings = {
        **{"data.root": images, "output_dir": output, "data.image_size": 32, "data.workers": 0},
        **{"model.arch": "resnet18", "model.dim": 16, "model.queue_size": 48, "model.bn_groups": 1},
        **{"optim.epochs": epochs, "optim.batch_size": 8, "checkpoint_steps": SAVE_EVERY, "log_period": 1},
        "device": "cpu",  # the GPUs are made up
    }
    return [word for setting in settings.items() for word in setting]


def fine_tuning(output: Path) -> list[object]:
    """Overrides of a run of 45 iterations of a narrow detector on small images."""
    settings = {
        **{"SOLVER.MAX_ITER": ITERATIONS, "SOLVER.STEPS": "[40]", "SOLVER.IMS_PER_BATCH": 2},
        **{"SOLVER.WARMUP_ITERS": 5, "SOLVER.CHECKPOINT_PERIOD": SAVE_EVERY_ITERATION, "INPUT.MIN_SIZE_TRAIN": "[64]"},
        **{"INPUT.MIN_SIZE_TEST": 64, "MODEL.RPN.POST_NMS_TOPK_TEST": 20, "TEST.PRECISE_BN.NUM_ITER": 2},
        **{"TEST.EVAL_PERIOD": 0, "MODEL.FPN.OUT_CHANNELS": 32, "MODEL.ROI_BOX_HEAD.FC_DIM": 64, "OUTPUT_DIR": output},
    }
    return [word for setting in settings.items() for word in setting]


def warned(cluster: Cluster, job: str) -> None:
    """The signal that SLURM sends before a time limit."""
    cluster.run("scancel", "--signal=USR2", job)


def limited(cluster: Cluster, job: str, signal_delay: int) -> None:
    """Its time limit becomes the least of which SLURM, which looks every 30 s, will warn it so many seconds before."""
    (elapsed,) = re.findall(r"RunTime=(\d+):(\d+):(\d+)", cluster.run("scontrol", "show", "job", job))
    hours, minutes, seconds = map(int, elapsed)
    least = 3600 * hours + 60 * minutes + seconds + 5 + 30 + signal_delay
    cluster.run("scontrol", "update", f"jobid={job}", f"timelimit={math.ceil(least / 60)}")


def requeued(cluster: Cluster, job: str) -> None:
    """As an administrator does."""
    cluster.run("scontrol", "requeue", job)


def preempted(cluster: Cluster) -> None:
    """Every job: one of the partition `high` needs both nodes; returns when it has had them."""
    needs_all = ("--partition=high", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap=sleep 1")
    other = cluster.run("sbatch", "--parsable", *needs_all).strip()
    cluster.wait(other, ["COMPLETED"])


def node_killed(cluster: Cluster) -> None:
    """One of the two nodes dies, and comes back."""
    cluster.kill_node("node2")
    cluster.revive_node("node2")


def metrics(folder: Path) -> list[dict[str, Any]]:
    """The rows of metrics.json that are whole."""
    path = folder / "metrics.json"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def await_row(folder: Path, key: str, least: int) -> None:
    """Until a row of metrics.json has a `key` of that much."""
    wait_until(
        lambda: any(row.get(key, -1) >= least for row in metrics(folder)), f"{key} {least} in {folder}", BESIDE_OTHERS
    )


def steps_run(folder: Path) -> list[int]:
    """The steps of a pretraining run in the order of its log: those done twice are in it twice."""
    return [int(step) for step in re.findall(r" step (\d+)/\d+ ", (folder / "log.txt").read_text())]


def pretraining_differs(one: Path, other: Path) -> list[str]:
    """What is not the same, bit by bit, in two finished pretraining runs: the checkpoint but for settings, metrics."""
    found = differences(one, other, EPOCHS)
    return [place for place in found if not place.startswith(".moco_transfer.config.")]  # where images lie, for one


def fine_tuning_differs(one: Path, other: Path) -> list[str]:
    """The same of two fine-tuning runs: weights, metrics but for times, scores."""
    models = [torch.load(run / "model_final.pth", weights_only=True)["model"] for run in (one, other)]
    scores = [json.loads((run / "result.json").read_text())["metrics"] for run in (one, other)]
    found = list(different("model", *models)) + (["result.json"] if scores[0] != scores[1] else [])
    return found + (["metrics.json"] if _without_times(one) != _without_times(other) else [])


def _without_times(folder: Path) -> list[dict[str, Any]]:
    clock = ("time", "data_time", "eta_seconds", "rank_data_time")
    return [{key: value for key, value in row.items() if key not in clock} for row in metrics(folder)]


def processes(run: Path, tool: str) -> list[Path]:
    """The folders in /proc of the processes of a tool that work for a run, on all nodes."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        words = _read(entry / "cmdline")
        if any(word.endswith(f"/{tool}") for word in words) and str(run) in words:
            found.append(entry)
    return found


def environment(process: Path) -> list[str]:
    """The environment of a process, by its folder in /proc: NAME=VALUE each."""
    return _read(process / "environ")


def environments(run: Path, tool: str) -> dict[str, dict[str, str]]:
    """The environments of these processes, by rank."""
    found = [dict(line.split("=", 1) for line in environment(entry) if "=" in line) for entry in processes(run, tool)]
    return {variables["SLURM_PROCID"]: variables for variables in found if "SLURM_PROCID" in variables}


def kill(run: Path, tool: str, number: int = signal.SIGKILL) -> None:
    """The signal to all of them."""
    for entry in processes(run, tool):
        os.kill(int(entry.name), number)


def _read(file: Path) -> list[str]:
    """The words of a file of /proc; none of a process that has ended."""
    try:
        return file.read_bytes().decode(errors="replace").rstrip("\0").split("\0")
    except OSError:
        return []
