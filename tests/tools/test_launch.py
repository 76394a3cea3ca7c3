"""tools/launch.py: real jobs on this machine, nothing on a dry run, every fault before anything is submitted."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import command
import launch
import launch_resources
from tests.conftest import Tool, refused
from transfer.errors import TransferError

TINY = ("optim.epochs", 1, "optim.batch_size", 4, "data.image_size", 32, "model.queue_size", 8, "data.workers", 0)
PRETRAIN = ("pretrain", "--config-file", "configs/pretrain/moco_v2_r18_cpu.yaml", "model.bn_groups", 1, *TINY)


Plan = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Plan:
    """Runs the tool in this process, which is quicker than a new one; for what must not start a job."""

    def run(*arguments: object) -> "subprocess.CompletedProcess[str]":
        line = ["tools/launch.py", *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", line)
        monkeypatch.setattr(launch, "submit", lambda *_: pytest.fail("a job was about to be submitted"))
        try:
            command.run(launch.main)
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        output = capsys.readouterr()
        return subprocess.CompletedProcess(line, code, output.out, output.err)

    return run


def test_two_tasks_on_this_machine_are_one_run_and_no_text_reaches_a_shell(
    tool: Tool, scenes: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "a run; $(touch shell) 'of' ours"
    settings = ("data.root", scenes / "unlabelled", "output_dir", folder)
    done = tool("launch", *PRETRAIN, *settings, "--cluster", "local", "--processes", 2, "--wait", TOKEN="s3cret-t0ken")
    assert done.returncode == 0, done.stderr
    assert f"run folder  {folder}" in done.stdout
    assert "job id" in done.stdout
    assert json.loads((folder / "env.json").read_text())["processes"] == 2
    assert (folder / "checkpoint_0000.pth.tar").is_file()
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]
    written = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    assert not any(b"s3cret-t0ken" in content for content in written)  # no dump of the environment


def test_debug_runs_here_and_a_failed_job_is_a_failed_command(tool: Tool, tmp_path: Path) -> None:
    done = tool(
        "launch", *PRETRAIN, "data.root", tmp_path / "nowhere", "output_dir", tmp_path / "x", "--cluster", "debug"
    )
    assert done.returncode == 1
    assert str(tmp_path / "nowhere") in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("cluster", ["slurm", "local", "debug"])
def test_a_dry_run_prints_the_plan_and_starts_nothing(plan: Plan, tmp_path: Path, cluster: str) -> None:
    options = ("--cluster", cluster, "--dry-run", "data.root", "IMAGES", "output_dir", tmp_path / "x")
    done = plan(*PRETRAIN, *options)
    assert done.returncode == 0, done.stderr
    assert f"run folder  {tmp_path / 'x'}" in done.stdout
    assert "tools/train_moco.py --config-file" in done.stdout
    assert "job id" not in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_resources_of_a_file_and_of_flags_reach_the_plan(plan: Plan, tmp_path: Path) -> None:
    options = ("--resources", "configs/launch/gpu8.yaml", "--nodes", 4, "--partition", "a100", "--time", "30")
    wrong = plan(*PRETRAIN, "--cluster", "slurm", "--dry-run", *options, "data.root", "X")
    refused(wrong, "time", "30", "3-00:00")
    options = (*options[:-1], "0:30")
    done = plan(*PRETRAIN, "--cluster", "slurm", "--dry-run", *options, "data.root", "X")
    assert done.returncode == 0, done.stderr
    for text in ("32 process(es)", "nodes 4", "gpus_per_node 8", "timeout_min 30", "slurm_partition a100"):
        assert text in done.stdout


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--cluster", "local", "--nodes", 2), ("--nodes 2", "local")),
        (("--cluster", "debug", "--processes", 2), ("debug", "2 processes")),
        (("--cluster", "local", "--partiton", "x"), ("--partiton",)),
        (("--cluster", "slurm", "--account", "a\nrm -rf x", "--dry-run"), ("account",)),
        (("--cluster", "local", "optim.leraning_rate", 1), ("optim.leraning_rate",)),
        (("--cluster", "moon"), ("moon", "slurm", "local", "debug")),
        (("--cluster", "local", "--resources", "nowhere.yaml"), ("nowhere.yaml",)),
    ],
)
def test_a_wrong_option_is_refused_before_anything_starts(
    plan: Plan, tmp_path: Path, options: tuple[Any, ...], named: tuple[str, ...]
) -> None:
    done = plan(*PRETRAIN, "data.root", "X", "output_dir", tmp_path / "x", *options)
    refused(done, *named)
    assert list(tmp_path.iterdir()) == []


def test_fine_tuning_is_checked_by_its_own_options(plan: Plan, tmp_path: Path) -> None:
    common = ("finetune", "--cluster", "local", "--config-file", "configs/transfer/voc_r18_fpn_cpu.yaml")
    folder = ("OUTPUT_DIR", tmp_path / "x")
    refused(plan(*common, "--num-gpus", 2, "--init", "random", *folder), "--num-gpus 2", "--processes")
    refused(plan(*common, "--init", "random", "SOLVER.BASE_RL", 1, *folder), "SOLVER.BASE_RL")
    done = plan(*common, "--init", "random", "--engine", "torchvision", *folder, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert f"run folder  {tmp_path / 'x'}" in done.stdout


# -- resources --------------------------------------------------------------------------------------------------------


def test_every_fault_of_a_resources_file_is_named_with_the_valid_names(tmp_path: Path) -> None:
    path = tmp_path / "resources.yaml"
    path.write_text("gpu: 8\nnodes: 0\nmem: much\ntime: 24:00\nqos: 'a b'\n")
    with pytest.raises(TransferError) as caught:
        launch_resources.read(path, {"cpus": 0})
    for text in (
        str(path),
        "gpu: no such",
        "gpus",
        "nodes: is 0",
        "mem: is 'much'",
        "time: is 1440",
        "qos",
        "cpus: is 0",
    ):
        assert text in str(caught.value)


def test_flags_stand_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "resources.yaml"
    path.write_text("nodes: 2\ngpus: 8\nmem: 64\n")
    resources = launch_resources.read(path, {"nodes": 4, "mem": None})
    assert (resources.nodes, resources.gpus, resources.mem, resources.tasks) == (4, 8, 64, 32)


@pytest.mark.parametrize(
    ("text", "minutes"), [("0:30", 30), ("12:00", 720), ("3-00:00", 4320), ("1:00:01", 61), ("2-01:30:00", 2970)]
)
def test_a_time_limit_is_read_as_slurm_reads_it(text: str, minutes: int) -> None:
    assert launch_resources.read(None, {"time": text}).minutes == minutes


def test_every_file_of_resources_can_be_read() -> None:
    files = sorted((Path(__file__).parents[2] / "configs" / "launch").glob("*.yaml"))
    assert files
    for path in files:
        assert launch_resources.read(path, {}).tasks >= 1
