"""tools/launch.py's command line: wrong options before anything is submitted, and runs that are not there."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from launcher import record
from launcher.cluster.resources import Resources
from launcher.record import Entry, Record, Submission
from launcher.stages.options import FinetuneOptions, PretrainOptions
from launcher.stages.stage import Stage
from tests.conftest import ROOT, refused
from tests.support.launched import Plan, call
from transfer.run.options import RunOptions

PRETRAIN = ("pretrain", "--config-file", ROOT / "configs/pretrain/moco_v2_r18_cpu.yaml", "data.root", "X")
FINETUNE = ("finetune", "--config-file", ROOT / "configs/transfer/voc_r18_fpn_cpu.yaml", "--engine", "torchvision")


@pytest.fixture
def plan(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """The tool in this process and in an empty folder, where there is no SLURM: nothing can be submitted to one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    return lambda *arguments: call(capsys, *arguments)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (
            ("--partiton", "x"),
            ("unrecognized arguments: --partiton", "did you mean --partition?", "train_moco.py --help"),
        ),
        (("--resume",), ("unrecognized arguments: --resume",)),
        (("--auto-resume",), ("unrecognized arguments: --auto-resume",)),
        (("--partit", "x"), ("unrecognized arguments: --partit",)),
        (("--trials", 2), ("unrecognized arguments: --trials",)),
        (("--cluster", "moon"), ("moon", "slurm", "local", "debug")),
        (("--cluster", "local", "--nodes", 2), ("--nodes 2", "local")),
        (("--cluster", "debug", "--processes", 2), ("2 processes", "debug", "--cluster local")),
        (("--cluster", "local", "--gpus", 99), ("--gpus 99: this machine has",)),
        (("--nodes", 0, "--account", "a\nb", "--time", "90"), ("nodes: is 0", r"'a\nb'", "time: is '90'")),
        (("--nodes", "two"), ("--nodes", "'two'")),
        (("--resources", "nowhere.yaml"), ("nowhere.yaml",)),
        (("optim.leraning_rate", 1), ("optim.leraning_rate",)),
        (("optim.epochs",), ("optim.epochs",)),
        (("--config-file", "nowhere.yaml"), ("nowhere.yaml",)),
        (("--cluster", "slurm"), ("no sbatch on this machine", "--cluster local")),
        (("--dry-run", "output_dir", "a\nb"), (r"a\nb", "no line break")),
        (("--dry-run", "output_dir", "a%jb"), ("a%jb", "no %")),
    ],
)
def test_impossible_pretraining_is_refused_and_writes_nothing(
    plan: Plan, tmp_path: Path, options: tuple[Any, ...], named: tuple[str, ...]
) -> None:
    refused(plan(*PRETRAIN, *options), *named)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (
            ("--partiton", "x"),
            ("unrecognized arguments: --partiton", "did you mean --partition?", "finetune.py --help"),
        ),
        (("--tri", 2), ("unrecognized arguments: --tri", "did you mean --trial?")),
        (("--num-gpus", 2), ("--num-gpus 2", "--processes")),
        (("--resume", "--eval-only"), ("--resume: a job resumes by itself", "--eval-only")),
        (("--auto-resume", "--trial", 1), ("--auto-resume", "--trial")),
        (("--trials", 0), ("--trials 0",)),
        (("--trials", 2, "--parallel", 0), ("--parallel 0",)),
        (("--parallel", 2), ("--parallel 2", "--trials")),
        (("SOLVER.BASE_RL", 1), ("SOLVER.BASE_RL",)),
        (("--engine", "caffe"), ("caffe", "torchvision")),
    ],
)
def test_impossible_fine_tuning_is_refused_and_writes_nothing(
    plan: Plan, tmp_path: Path, options: tuple[Any, ...], named: tuple[str, ...]
) -> None:
    refused(plan(*FINETUNE, "--init", "random", *options), *named)
    assert list(tmp_path.iterdir()) == []


def test_fine_tuning_needs_initial_weights(plan: Plan) -> None:
    refused(plan(*FINETUNE), "--init", "random")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("pipeline_demo", "--config-file", "x"), ("unrecognized arguments: --config-file",)),
        (("pipeline_demo", "data.root", "x"), ("unrecognized arguments: data.root x",)),
        (("pipeline_demo", "--resources", "gpu8"), ("--resources", "flags")),
        (("study.yaml",), ("study.yaml",)),
    ],
)
def test_a_wrong_pipeline_command_is_refused(plan: Plan, words: tuple[str, ...], named: tuple[str, ...]) -> None:
    refused(plan("pipeline", *words), *named)


@pytest.mark.parametrize("words", [("status", "x"), ("logs", "x", "pretrain"), ("cancel", "x"), ("retry", "x")])
def test_a_folder_that_holds_no_run_is_named_and_stays_as_it_is(
    plan: Plan, tmp_path: Path, words: tuple[str, ...]
) -> None:
    (tmp_path / "x").mkdir()
    refused(plan(*words), "x: no run of tools/launch.py")
    assert list((tmp_path / "x").iterdir()) == []


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"version": 1}', '{"version": 3, "stages": {}}'])
def test_a_record_that_is_none_is_refused_by_its_path(plan: Plan, tmp_path: Path, text: str) -> None:
    (tmp_path / "x/launch").mkdir(parents=True)
    (tmp_path / "x/launch/record.json").write_text(text)
    refused(plan("status", "x"), "x/launch/record.json")


def test_a_real_process_refuses_without_a_traceback(tmp_path: Path) -> None:
    line = [sys.executable, str(ROOT / "tools/launch.py"), *map(str, PRETRAIN), "--partiton", "x"]
    refused(subprocess.run(line, cwd=tmp_path, capture_output=True, text=True), "--partiton", "--partition")


def test_status_imports_no_torch(tmp_path: Path) -> None:
    begun(tmp_path / "run", tmp_path)
    script = str(ROOT / "tools/launch.py")
    code = (
        f"import runpy, sys\nsys.argv = [{script!r}, 'status', 'run']\n"
        f"runpy.run_path({script!r}, run_name='__main__')\nprint('torch' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tools'}"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout.endswith("False\n"), done.stdout + done.stderr


# -- a run that was begun elsewhere, with jobs of other days ----------------------------------------------------------


def begun(folder: Path, cwd: Path, job: str | None = "4194999") -> Record:
    """A run of one stage whose job is gone."""
    made = Stage("pretrain", PretrainOptions(None, ()), "out/run", "out/run/x", Resources())
    jobs = [Submission("moco-a", job, "2026-01-01T00:00:00+00:00", "/code", None, ())] if job else []
    run = Record(folder, "local", str(cwd), {"pretrain": Entry(made, jobs)})
    run.home.mkdir(parents=True)
    run.save()
    return run


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    run = begun(tmp_path, tmp_path)
    run_options = RunOptions(
        Path("c.yaml"), ("x y", "\n"), init="x", dataset_root=Path("d"), data_rules={"zero_area": "drop"}, trial=2
    )
    run.entries["pretrain"].stage = Stage(
        *("a/b", FinetuneOptions(run_options), "f", "r"),
        *(Resources(nodes=2, mem=1.5, sbatch={"exclusive": True}, setup=["x"]), ("pretrain",), "a", 3),
    )
    run.save()
    assert record.load_record(tmp_path) == run


def test_a_status_does_not_depend_on_the_current_folder(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(tmp_path / "out/run", tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out/run/x").write_text("a result, of an earlier job")
    for cwd, name in ((tmp_path, "out/run"), (tmp_path / "out", "run"), (Path("/"), tmp_path / "out/run")):
        monkeypatch.chdir(cwd)
        (row,) = json.loads(plan("status", name, "--json").stdout)
        assert row["state"] == "FINISHED"


def test_a_run_whose_folder_of_beginning_is_gone_says_so(plan: Plan, tmp_path: Path) -> None:
    begun(tmp_path / "run", tmp_path / "gone")
    refused(plan("retry", "run"), tmp_path / "gone", "was begun in")


def test_a_stage_without_output_or_of_another_name(plan: Plan, tmp_path: Path) -> None:
    run = begun(tmp_path / "run", tmp_path)
    refused(plan("logs", "run", "report"), "report: no such stage; there are pretrain")
    refused(plan("logs", "run", "pretrain", "--rank", 3), "4194999_3_log.out", "no rank 3")
    folder = run.logs(run.entries["pretrain"].stage)
    folder.mkdir(parents=True)
    (folder / "4194999_3_log.out").write_bytes(b"half a line \xff")
    for follow in ((), ("--follow",)):  # the job has ended: there is nothing to wait for
        done = plan("logs", "run", "pretrain", "--rank", 3, *follow)
        assert (done.returncode, done.stdout) == (0, "half a line \ufffd")
    begun(tmp_path / "other", tmp_path, job=None)
    refused(plan("logs", "other", "pretrain"), "has not been submitted yet")


def test_there_is_nothing_to_cancel_where_no_job_is_left(plan: Plan, tmp_path: Path) -> None:
    before = begun(tmp_path / "run", tmp_path)
    done = plan("cancel", "run")
    assert (done.returncode, done.stdout) == (0, "nothing to cancel: no job of this run is on its way\n")
    assert record.load_record(tmp_path / "run").entries == before.entries
