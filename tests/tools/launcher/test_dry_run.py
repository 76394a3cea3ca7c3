"""A dry run prints everything and writes nothing; sbatch gets what it shows, and no shell runs text of the user."""

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import submitit
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher import jobs
from launcher.cluster.resources import Resources
from launcher.record import Record
from launcher.stages.options import PretrainOptions
from launcher.stages.stage import Stage
from tests.conftest import ROOT
from tests.support.launched import Plan, call

EVIL = "a 'b' \"c\" ; $(touch made) `touch made` & $HOME | \\ *"
PRETRAIN = ("pretrain", "--config-file", ROOT / "configs/pretrain/moco_v2_r18_cpu.yaml", "data.root", "X")
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
SETTINGS = st.lists(st.tuples(TEXT, TEXT), max_size=3)
# What a run's folder may be named: a slash begins the next name, SLURM takes no % and nothing that is not printed.
NAME = st.text(st.characters(exclude_characters="/%", exclude_categories=["Cs"]), min_size=1, max_size=12).filter(
    lambda text: text.isprintable() and text not in (".", "..")
)


def test_the_check_of_several_gpus_can_be_left_out(tmp_path: Path) -> None:
    record, options = Record(tmp_path, "slurm", str(tmp_path)), PretrainOptions(None, ())
    for left_out, gpus in ((None, 2), (True, 2), (False, 0)):
        asked = Resources(gpus=2, gpu_check=left_out)
        assert jobs.task(Stage("pretrain", options, "a", "b", asked), record, ()).gpus == gpus


@pytest.fixture
def plan(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """The tool in this process and in an empty folder, where there is no SLURM."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    return lambda *arguments: call(capsys, *arguments)


def files_of(message: str) -> list[str]:
    """The sbatch files of a dry run, each with what is printed after it."""
    return ["#!/bin/bash" + text for text in message.split("#!/bin/bash")[1:]]


def read_by_bash(text: str) -> None:
    """Fails where bash cannot read it; nothing runs."""
    checked = subprocess.run(["/bin/bash", "-n"], input=text, capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.parametrize("cluster", ["slurm", "local", "debug"])
def test_a_dry_run_prints_all_and_writes_nothing(plan: Plan, tmp_path: Path, cluster: str) -> None:
    done = plan(*PRETRAIN, "--dry-run", "--cluster", cluster, "output_dir", "out put")
    assert (done.returncode, done.stderr) == (0, "warning: data.root X: is not on this machine\n")
    lines = done.stdout.splitlines()
    assert lines[0] == f"stage       pretrain: 1 x 1 process(es) on {cluster}"
    words = shlex.split(lines[1].removeprefix("  $ "))
    assert words[0] == sys.executable
    assert words[1] == f"{tmp_path}/out put/launch/code/SNAPSHOT/tools/train_moco.py"
    assert words[2:] == [*map(str, PRETRAIN[1:]), "output_dir", "out put", "--auto-resume"]
    assert "run folder  out put" in lines
    assert len(files_of(done.stdout)) == (cluster == "slurm")
    assert list(tmp_path.iterdir()) == []


def test_resources_stand_in_the_sbatch_file(plan: Plan) -> None:
    options = ("--resources", ROOT / "configs/launch/gpu8.yaml", "--nodes", 4, "--partition", "a100", "--time", "0:30")
    done = plan(*PRETRAIN, "--dry-run", *options, "--qos", "high", "--constraint", "h100|a100", "--signal-delay", 60)
    assert done.returncode == 0, done.stderr
    assert "pretrain: 4 x 8 process(es) on slurm" in done.stdout
    (file,) = files_of(done.stdout)
    asked = {line.removeprefix("#SBATCH --") for line in file.splitlines() if line.startswith("#SBATCH ")}
    assert asked >= {
        *("nodes=4", "ntasks-per-node=8", "gpus-per-node=8", "cpus-per-task=6", "mem=204800MB", "time=30", "qos=high"),
        *("partition=a100", "constraint='h100|a100'", "signal=USR2@60", "requeue", "kill-on-invalid-dep=yes"),
    }
    assert "account" not in file
    assert "wckey" not in file
    assert "--kill-on-bad-exit=1 --wait=0 --export=ALL --cpus-per-task=6 " in file
    assert "\nexport OMP_NUM_THREADS=${OMP_NUM_THREADS:-6}\n" in file


def test_trials_are_an_array_of_which_so_many_run_at_a_time(plan: Plan, tmp_path: Path) -> None:
    words = ("finetune", "--config-file", ROOT / "configs/transfer/voc_r18_fpn_cpu.yaml", "--engine", "torchvision")
    done = plan(*words, "--dry-run", "--init", "random", "--trials", 3, "--parallel", 2, "OUTPUT_DIR", "out")
    assert done.returncode == 0, done.stderr
    assert "stage       trial_0, trial_1, trial_2: 1 x 1 process(es) on slurm, 2 at a time" in done.stdout
    (file,) = files_of(done.stdout)
    assert "#SBATCH --array=0-2%2" in file
    assert "%A_%a_%t_log.out" in file
    assert [f"--trial {number} OUTPUT_DIR out" in done.stdout for number in range(4)] == [True, True, True, False]
    assert "run folder  out\n" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_pipeline_shows_its_graph(plan: Plan, tmp_path: Path) -> None:
    content: dict[str, Any] = {
        "output": EVIL,
        "pretrain": {"settings": {"data.root": "images\nof mine"}},
        "finetune": {
            **{"trials": 2, "engine": "torchvision", "starts": {"random": "random", "moco": "pretrained"}},
            "tasks": {"voc": {"config": str(ROOT / "configs/transfer/voc_r18_fpn_cpu.yaml")}},
        },
    }
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(content))
    done = plan("pipeline", file, "--dry-run", "--parallel", 1)
    assert done.returncode == 0, done.stderr
    message = [line for line in done.stdout.splitlines() if line.startswith(("stage ", "  after "))]
    size = "1 x 1 process(es) on slurm"
    assert message == [
        f"stage       pretrain: {size}",
        f"stage       convert: {size}",
        "  after     pretrain",
        f"stage       voc/moco/trial_0, voc/moco/trial_1: {size}, 1 at a time",
        "  after     convert",
        f"stage       voc/random/trial_0, voc/random/trial_1: {size}, 1 at a time",
        f"stage       report: {size}",
        "  after     voc/moco/trial_0, voc/moco/trial_1, voc/random/trial_0, voc/random/trial_1",
    ]
    files = files_of(done.stdout)
    assert len(files) == 5
    for text in files:
        read_by_bash(text.split("\n\nstage ")[0].split("\nrun folder ")[0])
    assert "#SBATCH --dependency=afterok:JOB_OF_convert" in files[2]
    assert [path.name for path in tmp_path.iterdir()] == ["study.yaml"]
    assert "--parallel 0: a number from 1 up" in plan("pipeline", file, "--dry-run", "--parallel", 0).stderr


def test_a_line_break_in_an_override_is_quoted(plan: Plan) -> None:
    done = plan(*PRETRAIN[:-1], "two\nlines; $(touch made)", "--dry-run", "output_dir", EVIL)
    assert done.returncode == 0, done.stderr
    assert "'two\nlines; $(touch made)'" in done.stdout
    (file,) = files_of(done.stdout)
    assert "two" not in file
    read_by_bash(file.split("\nrun folder ")[0])


# -- what bash makes of the file --------------------------------------------------------------------------------------


def stage(**changes: Any) -> Stage:
    made = {
        **{"name": "pretrain", "options": PretrainOptions(None, ())},
        **{"folder": "out", "result": "out/x", "resources": Resources(), **changes},
    }
    return Stage(**made)


def argv(text: str, folder: Path) -> list[str]:
    """The words that srun is called with when bash runs an sbatch file; there is nothing else that it could run."""
    programs = folder / "programs"
    if not programs.exists():
        programs.mkdir(parents=True)
        (programs / "srun").write_text(f"#!/bin/sh\nexec {sys.executable} -c '{_PRINT}' \"$@\"\n")
        (programs / "srun").chmod(0o755)
    done = subprocess.run(
        ["/bin/bash", "-c", text], cwd=folder, env={"PATH": str(programs)}, capture_output=True, check=True
    )
    assert done.stderr == b""
    return [os.fsdecode(word) for word in done.stdout.split(b"\0")[:-1]]


_PRINT = "import os, sys; sys.stdout.buffer.writelines(os.fsencode(word) + bytes(1) for word in sys.argv[1:])"


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch")


@settings(max_examples=25)
@given(folder=NAME, name=NAME)
def test_srun_gets_the_words_that_were_meant(scratch: Path, folder: str, name: str) -> None:
    run = scratch / folder
    record = Record(run, "slurm", str(scratch))
    text = jobs.sbatch_file([stage(name=name)], record, run / "code", [])
    log, code = str(run / "launch/logs" / name), str(run / "code")
    assert argv(text, scratch) == [
        *("--unbuffered", "--output", f"{log}/%j_%t_log.out", "--kill-on-bad-exit=1", "--wait=0", "--export=ALL"),
        *(sys.executable, "-I", "-S", f"{code}/tools/launcher/cluster/block_signals.py", code),
        *(sys.executable, "-u", "-m", "submitit.core._submit", log),
    ]
    assert [path.name for path in scratch.iterdir()] == ["programs"]  # it was not even touched
    for line in text.splitlines():
        if line.startswith("#SBATCH "):
            assert len(shlex.split(line.removeprefix("#SBATCH "))) == 1


@given(SETTINGS)
def test_no_override_reaches_the_sbatch_file(given: list[tuple[str, str]]) -> None:
    record = Record(Path("run"), "slurm", "/")
    file = jobs.sbatch_file([stage(options=PretrainOptions(None, tuple(given)))], record, Path("/code"), [])
    assert file == jobs.sbatch_file([stage()], record, Path("/code"), [])


@settings(max_examples=25)
@given(given=SETTINGS, config=NAME)
def test_words_survive_the_pickle(scratch: Path, given: list[tuple[str, str]], config: str) -> None:
    made = stage(options=PretrainOptions(config, tuple(given)))
    record = Record(scratch / "run", "slurm", "/somewhere")
    words = jobs.command(made, scratch / "code", Path(config))
    file = scratch / "programs" / "job.pkl"
    file.parent.mkdir(exist_ok=True)
    submitit.core.utils.DelayedSubmission(jobs.task(made, record, words)).dump(file)
    task = submitit.core.utils.DelayedSubmission.load(file).function
    assert task.command == (
        *(sys.executable, str(scratch / "code/tools/train_moco.py"), "--config-file", config),
        *(*(word for setting in given for word in setting), "--auto-resume"),
    )
    assert list(map(type, task.command)) == [str] * len(task.command)
    assert (task.folder, task.python) == ("out", (sys.executable,))
    assert {type(value) for name, value in vars(task).items() if name not in ("command", "python", "inputs")} <= {
        str,
        int,
        bool,
    }
