"""What a user types reaches no shell, what his environment holds reaches no file, and what he edits no queued job."""

import shutil
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.slurm import runs
from tests.slurm.cluster import Cluster
from tests.slurm.runs import launch, pretraining, submit
from tests.support.waiting import PATIENCE, wait_until

SHORT = ("--time", "0:05", "--cpus", 1)
TOKEN = "s3cret-t0ken-of-the-user"


@pytest.fixture
def few_images(images: Path, tmp_path: Path) -> Path:
    """16 images, two steps, in a folder whose name a shell would take for commands."""
    folder = tmp_path / 'it\'s "mine"; $(touch x) `touch y` & $HOME | a\nb'
    folder.mkdir()
    for number in range(16):
        shutil.copy(images / f"{number}.png", folder)
    return folder


def test_no_shell_sees_names_no_file_the_environment_and_the_gpu_is_the_one_that_slurm_gave(
    cluster: Cluster, few_images: Path, tmp_path: Path
) -> None:
    taken = ("--nodelist=node1", "--gpus-per-node=1", "--output=/dev/null", "--wrap=sleep 120")
    cluster.wait(cluster.run("sbatch", "--parsable", *taken).strip(), ["RUNNING"])
    there = tmp_path / "node.yaml"
    there.write_text("sbatch: {nodelist: node1}\n")
    run = tmp_path / "a run; $(touch x) 'of' \"ours\" `touch y` & $HOME"
    words = ("pretrain", "--resources", there, "--gpus", 1, *SHORT, *pretraining(few_images, run, epochs=20))
    job = submit(cluster, *words, API_TOKEN=TOKEN)["pretrain"]
    wait_until(lambda: runs.environments(run, "train_moco.py"), "the task runs")
    (seen,) = runs.environments(run, "train_moco.py").values()
    assert seen["CUDA_VISIBLE_DEVICES"] == "1"  # the other one is taken
    assert seen["API_TOKEN"] == TOKEN  # it would be found, were it written down
    cluster.wait(job, ["COMPLETED"], PATIENCE)
    assert runs.steps_run(run) == list(range(1, 41))
    written = [path for path in run.rglob("*") if path.is_file()]
    assert any(path.parent.name == "pretrain" for path in written)  # submitit's files and the logs
    assert [path for path in written if TOKEN.encode() in path.read_bytes()] == []
    assert {path.name for path in tmp_path.iterdir()} == {few_images.name, run.name, there.name}
    assert not [name for name in ("x", "y") if (ROOT / name).exists()]
    assert TOKEN not in launch(cluster, "logs", run, "pretrain", API_TOKEN=TOKEN).stdout


def test_edits_of_the_checkout_change_no_job_that_waits(cluster: Cluster, few_images: Path, tmp_path: Path) -> None:
    checkout, run, held = tmp_path / "checkout", tmp_path / "run", tmp_path / "held.yaml"
    for part in ("pretrain", "transfer", "tools", "configs"):
        shutil.copytree(ROOT / part, checkout / part)
    held.write_text("sbatch: {hold: true}\n")
    config = checkout / "mine.yaml"
    config.write_text("_BASE_: configs/pretrain/moco_v2_r18_cpu.yaml\n")
    words = ("pretrain", "--resources", held, *SHORT, "--config-file", config, *pretraining(few_images, run, epochs=1))
    job = submit(cluster, *words, code=checkout)["pretrain"]
    for path in checkout.rglob("*.py"):
        path.write_text("raise SystemExit('this is the edited code')\n")
    for path in checkout.rglob("*.yaml"):
        path.write_text("edited: true\n")
    cluster.run("scontrol", "release", job)
    cluster.wait(job, ["COMPLETED"], PATIENCE)
    assert runs.steps_run(run) == [1, 2]
