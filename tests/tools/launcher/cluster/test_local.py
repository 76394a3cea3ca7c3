"""`launch.py --cluster local`: a job outlives its terminal, stops when asked, and ends as if it had never stopped."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fault_injection.job import differences
from launcher import record
from launcher.cluster import local
from launcher.stages import verify
from pretrain.checkpoints import moco_file, saver
from pretrain.runtime import provenance
from tests.conftest import ROOT, Tool, refused
from tests.support.launched import call, jobs, last_step, tasks
from tests.support.pictures import fine_noise
from tests.support.waiting import outcomes, wait_until

EPOCHS = 24  # long enough to be disturbed three times, also on a quick machine
STEPS = 3 * EPOCHS
TOKEN = "s3cret-t0ken-of-the-user"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three batches of noise."""
    return fine_noise(tmp_path_factory.mktemp("images"), 24)


def pretraining(images: Path, output: Path) -> list[str]:
    """Settings of three steps an epoch, each with a row in metrics.json; saved at the end alone."""
    settings = {
        **{"data.root": images, "output_dir": output, "data.image_size": 32, "data.workers": 0, "device": "cpu"},
        **{"model.arch": "resnet18", "model.dim": 16, "model.queue_size": 48, "model.bn_groups": 1},
        **{"optim.epochs": EPOCHS, "optim.batch_size": 8, "checkpoint_period": EPOCHS, "log_period": 1},
    }
    return [str(word) for setting in settings.items() for word in setting]


def start(*words: object, **environment: str) -> "subprocess.Popen[str]":
    """The launcher in a terminal of its own."""
    line = [sys.executable, "tools/launch.py", *map(str, words)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.Popen(
        line, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


@pytest.fixture(scope="module")
def undisturbed(images: Path, tool: Tool, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    words = ("pretrain", "--cluster", "local", "--processes", 2, "--wait", *pretraining(images, run))
    done = tool("launch", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FINISHED" in done.stdout
    assert outcomes(run, "pretrain") == ["start", "finished"]
    return run


@pytest.mark.slow
def test_a_run_is_that_of_the_tool_from_a_snapshot(undisturbed: Path) -> None:
    told = json.loads((undisturbed / "env.json").read_text())
    assert told["processes"] == 2
    (code,) = (undisturbed / "launch/code").iterdir()
    assert (code / provenance.NOTE).read_text().strip() == told["git"] == provenance.revision()


@pytest.mark.slow
def test_a_job_goes_on_after_ctrl_c_a_signal_and_a_cancel_as_an_undisturbed_one(
    undisturbed: Path,
    images: Path,
    tool: Tool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    run = tmp_path / "a run; $(touch made) 'of' ours"
    resources = tmp_path / "resources.yaml"
    resources.write_text("processes: 2\nsetup: ['export FROM_SETUP=\"it is here\"']\n")
    words = ("pretrain", "--cluster", "local", "--resources", resources, "--wait", *pretraining(images, run))
    terminal = start(*words, API_TOKEN=TOKEN)
    wait_until(lambda: last_step(run) >= 3 or terminal.poll() is not None, "it trains")
    os.killpg(terminal.pid, signal.SIGINT)
    told = terminal.communicate(timeout=60)[0]
    assert terminal.returncode == 130, told
    (job,) = jobs(run)["pretrain"]
    assert state(capsys, run)["state"] == "RUNNING"
    first = tasks(run, "train_moco.py")
    assert len(first) == 2
    environment = Path(f"/proc/{first[0]}/environ").read_bytes()
    assert b"FROM_SETUP=it is here\0" in environment
    assert TOKEN.encode() in environment  # it would be found, were it written down

    for task in first:
        os.kill(task, signal.SIGUSR2)
    wait_until(lambda: outcomes(run, "pretrain").count("start") == 2, "the second attempt")
    before = last_step(run)
    wait_until(lambda: last_step(run) > before, "it goes on")
    found = state(capsys, run)
    assert (found["state"], found["attempt"], found["job"], found["total"]) == ("RUNNING", 2, job, STEPS)

    done = call(capsys, "cancel", run)
    assert (done.returncode, done.stdout) == (0, f"cancelled   pretrain: job {job}\n")
    wait_until(lambda: outcomes(run, "pretrain").count("stopped") == 2, "it has stopped")
    wait_until(lambda: not local.states([(job, logs(run))]), "it has ended")
    assert outcomes(run, "pretrain") == ["start", "stopped", "start", "stopped"]
    assert state(capsys, run)["state"] == "CANCELLED"
    assert saver.manifests(run)[-1].step == last_step(run) < STEPS  # nothing is lost

    done = tool("launch", "retry", run, "--wait")
    assert done.returncode == 0, done.stdout + done.stderr
    assert outcomes(run, "pretrain")[4:] == ["start", "finished"]
    assert len(jobs(run)["pretrain"]) == 2
    assert differences(run, undisturbed, EPOCHS) == []
    written = [path for path in run.rglob("*") if path.is_file()]
    assert [path for path in written if TOKEN.encode() in path.read_bytes()] == []
    assert {path.name for path in tmp_path.iterdir()} == {run.name, resources.name}
    assert not (ROOT / "made").exists()

    before = jobs(run)["pretrain"]
    done = call(capsys, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing to submit: all has finished" in done.stdout
    assert jobs(run)["pretrain"] == before
    refused(call(capsys, *words, "optim.lr", 0.5), "pretrain: ", "another optim.lr", "name another output")
    assert verify.verify(record.load_record(run).entries["pretrain"].stage)
    name = moco_file.file_name(EPOCHS - 1)
    with open(run / name, "r+b") as file:
        file.seek(5000)
        file.write(b"damage")
    refused(call(capsys, *words), f"{name} is damaged", "move it away")


def logs(run: Path) -> Path:
    found = record.load_record(run)
    return found.logs(found.entries["pretrain"].stage).resolve()


def state(capsys: pytest.CaptureFixture[str], run: Path) -> dict[str, object]:
    (row,) = json.loads(call(capsys, "status", run, "--json").stdout)
    return row  # type: ignore[no-any-return]


def test_debug_runs_here_and_a_failed_job_is_a_failed_command(tool: Tool, tmp_path: Path) -> None:
    done = tool("launch", "pretrain", "--cluster", "debug", *pretraining(tmp_path / "nowhere", tmp_path / "run"))
    assert done.returncode == 1
    assert str(tmp_path / "nowhere") in done.stderr
    assert "error: pretrain: FAILED exit code 2" in done.stderr
    assert "Traceback" not in done.stderr
