"""`launch.py --cluster local`: a job outlives its terminal, stops when asked, and ends as if it had never stopped."""

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fault_injection.job import differences
from launcher import record
from launcher.cluster import local
from launcher.stages import verify
from pretrain.checkpoints import moco_file, saver
from pretrain.runtime import provenance
from tests.conftest import ROOT, Tool, refused
from tests.support.launched import call, jobs, last_step, tasks
from tests.support.pretrain.pictures import fine_noise
from tests.support.waiting import PATIENCE, outcomes, wait_until

EPOCHS = 60  # of the narrow network, which sleeps in each step: half a minute in which to disturb it three times
STEPS = 3 * EPOCHS
TOKEN = "s3cret-t0ken-of-the-user"


@pytest.fixture(autouse=True, scope="module")
def narrow_network() -> Iterator[None]:
    """The jobs train a network that costs next to nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT / "tests/slurm/narrow"), prepend=os.pathsep)
        yield


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three batches of noise."""
    return fine_noise(tmp_path_factory.mktemp("images"), 24)


def pretraining(images: Path, output: Path) -> list[str]:
    """Settings of three steps an epoch, each with a row in metrics.json; saved only at the end."""
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
    message = json.loads((undisturbed / "env.json").read_text())
    assert message["processes"] == 2
    (code,) = (undisturbed / "launch/code").iterdir()
    assert (code / provenance.NOTE).read_text().strip() == message["git"] == provenance.revision()


@dataclass
class Disturbed:
    """A run that a signal, a cancel and Ctrl-C have met, and that was retried, with what was seen meanwhile."""

    run: Path
    words: tuple[object, ...]  # of its command
    seen: dict[str, Any] = field(default_factory=dict)


@pytest.fixture(scope="module")
def disturbed(images: Path, tool: Tool, tmp_path_factory: pytest.TempPathFactory) -> Disturbed:
    folder = tmp_path_factory.mktemp("disturbed")
    resources = folder / "resources.yaml"
    resources.write_text("processes: 2\nsetup: ['export FROM_SETUP=\"it is here\"']\n")
    run = folder / "a run; $(touch made) 'of' ours"
    words = ("pretrain", "--cluster", "local", "--resources", resources, *pretraining(images, run))
    found = Disturbed(run, words)
    leave_the_terminal(found, tool)
    send_a_signal(found, tool)
    cancel_it(found, tool)
    interrupt_the_wait(found, tool)
    found.seen["retry"] = tool("launch", "retry", run, "--wait")
    return found


def leave_the_terminal(found: Disturbed, tool: Tool) -> None:
    terminal = start(*found.words, API_TOKEN=TOKEN)
    output = terminal.communicate(timeout=PATIENCE)[0]
    with contextlib.suppress(ProcessLookupError):
        os.killpg(terminal.pid, signal.SIGHUP)
    wait_until(lambda: last_step(found.run) >= 3, "it trains")
    found.seen |= {"output": output, "code": terminal.returncode, "after the terminal": state(tool, found.run)}
    found.seen["tasks"] = tasks(found.run, "train_moco.py")
    found.seen["environment"] = Path(f"/proc/{found.seen['tasks'][0]}/environ").read_bytes()


def send_a_signal(found: Disturbed, tool: Tool) -> None:
    for task in found.seen["tasks"]:
        os.kill(task, signal.SIGUSR2)
    wait_until(lambda: outcomes(found.run, "pretrain").count("start") == 2, "the second attempt")
    before = last_step(found.run)
    wait_until(lambda: last_step(found.run) > before, "it trains again")
    found.seen["after the signal"] = state(tool, found.run)


def cancel_it(found: Disturbed, tool: Tool) -> None:
    (job,) = jobs(found.run)["pretrain"]
    found.seen |= {"job": job, "cancel": tool("launch", "cancel", found.run)}
    wait_until(lambda: outcomes(found.run, "pretrain").count("stopped") == 2, "it has stopped")
    wait_until(lambda: not local.job_states([(job, logs(found.run))]), "it has ended")
    found.seen["after the cancel"] = state(tool, found.run)
    found.seen["saved and trained"] = (saver.manifests(found.run)[-1].step, last_step(found.run))


def interrupt_the_wait(found: Disturbed, tool: Tool) -> None:
    before = last_step(found.run)
    terminal = start(*found.words, "--wait")
    wait_until(lambda: last_step(found.run) > before or terminal.poll() is not None, "it goes on")
    os.killpg(terminal.pid, signal.SIGINT)
    found.seen["interrupted output"] = terminal.communicate(timeout=PATIENCE)[0]
    found.seen["interrupted code"] = terminal.returncode
    found.seen["after Ctrl-C"] = state(tool, found.run)
    found.seen["saved and trained after Ctrl-C"] = (saver.manifests(found.run)[-1].step, last_step(found.run))


@pytest.mark.slow
def test_a_job_outlives_its_terminal(disturbed: Disturbed) -> None:
    assert disturbed.seen["code"] == 0, disturbed.seen["output"]
    assert disturbed.seen["after the terminal"]["state"] == "RUNNING"
    assert len(disturbed.seen["tasks"]) == 2


@pytest.mark.slow
def test_ctrl_c_stops_a_job_that_is_waited_for(disturbed: Disturbed) -> None:
    output = disturbed.seen["interrupted output"]
    assert disturbed.seen["interrupted code"] == 130, output
    assert "the same command continues" in output
    assert disturbed.seen["after Ctrl-C"]["state"] == "CANCELLED"
    saved, trained = disturbed.seen["saved and trained after Ctrl-C"]
    assert saved == trained < STEPS


@pytest.mark.slow
def test_setup_lines_reach_the_tasks(disturbed: Disturbed) -> None:
    assert b"FROM_SETUP=it is here\0" in disturbed.seen["environment"]


@pytest.mark.slow
def test_a_signal_starts_the_same_job_once_more(disturbed: Disturbed) -> None:
    found = disturbed.seen["after the signal"]
    expected = ("RUNNING", 2, disturbed.seen["job"], STEPS)
    assert (found["state"], found["attempt"], found["job"], found["total"]) == expected


@pytest.mark.slow
def test_a_cancelled_job_has_saved_its_last_step(disturbed: Disturbed) -> None:
    done = disturbed.seen["cancel"]
    assert (done.returncode, done.stdout) == (0, f"cancelled   pretrain: job {disturbed.seen['job']}\n")
    assert disturbed.seen["after the cancel"]["state"] == "CANCELLED"
    saved, trained = disturbed.seen["saved and trained"]
    assert saved == trained < STEPS


@pytest.mark.slow
def test_a_retried_run_ends_as_an_undisturbed_one(disturbed: Disturbed, undisturbed: Path) -> None:
    done = disturbed.seen["retry"]
    assert done.returncode == 0, done.stdout + done.stderr
    attempts = [*3 * ["start", "stopped"], "start", "finished"]
    assert outcomes(disturbed.run, "pretrain") == attempts
    assert len(jobs(disturbed.run)["pretrain"]) == 3
    assert differences(disturbed.run, undisturbed, EPOCHS) == []


@pytest.mark.slow
def test_nothing_of_the_users_environment_is_written(disturbed: Disturbed) -> None:
    assert TOKEN.encode() in disturbed.seen["environment"]  # it would be found, were it written down
    written = [path for path in disturbed.run.rglob("*") if path.is_file()]
    assert [path for path in written if TOKEN.encode() in path.read_bytes()] == []


@pytest.mark.slow
def test_a_name_with_shell_syntax_runs_nothing(disturbed: Disturbed) -> None:
    assert {path.name for path in disturbed.run.parent.iterdir()} == {disturbed.run.name, "resources.yaml"}
    assert not (ROOT / "made").exists()


@pytest.mark.slow
def test_a_finished_run_given_again_submits_nothing(
    disturbed: Disturbed, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    before = jobs(disturbed.run)["pretrain"]
    done = call(capsys, *disturbed.words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing to submit: all has finished" in done.stdout
    assert jobs(disturbed.run)["pretrain"] == before


@pytest.mark.slow
def test_other_settings_of_a_finished_run_are_refused(
    disturbed: Disturbed, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    refused(call(capsys, *disturbed.words, "optim.lr", 0.5), "pretrain: ", "another optim.lr", "name another output")


@pytest.mark.slow
def test_a_damaged_checkpoint_of_a_finished_run_is_refused(
    disturbed: Disturbed, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert verify.verify(record.load_record(disturbed.run).entries["pretrain"].stage)
    path = disturbed.run / moco_file.file_name(EPOCHS - 1)
    good = path.read_bytes()
    path.write_bytes(good[:5000] + b"damage" + good[5006:])
    try:
        refused(call(capsys, *disturbed.words), f"{path.name} is damaged", "move it away")
    finally:
        path.write_bytes(good)


def logs(run: Path) -> Path:
    found = record.load_record(run)
    return found.logs(found.entries["pretrain"].stage).resolve()


def state(tool: Tool, run: Path) -> dict[str, Any]:
    """The row of `launch.py status`."""
    (row,) = json.loads(tool("launch", "status", run, "--json").stdout)
    return row  # type: ignore[no-any-return]


def test_a_failed_debug_job_is_a_failed_command(tool: Tool, tmp_path: Path) -> None:
    done = tool("launch", "pretrain", "--cluster", "debug", *pretraining(tmp_path / "nowhere", tmp_path / "run"))
    assert done.returncode == 1
    assert str(tmp_path / "nowhere") in done.stderr
    assert "error: pretrain: FAILED exit code 2" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("processes", ["/proc", "/nothing/here"])
def test_jobs_are_found_and_stopped_also_without_proc(
    processes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """macOS has `ps` alone. A job with `setup` lines is a shell and the controller below it, which gets the signal."""
    if not shutil.which("ps"):
        pytest.skip("there is no ps")
    monkeypatch.setattr(local, "PROCESSES", Path(processes))
    logs, others = tmp_path / "some logs", tmp_path / "other logs"
    line = [sys.executable, "-c", "import time; time.sleep(300)", "-m", "submitit.local._local", str(logs)]
    with subprocess.Popen(["sh", "-c", f"true && {shlex.join(line)}"], start_new_session=True) as shell:
        wait_until(lambda: local.find_job(logs) and local._children(str(shell.pid)), "shell and controller run")
        (controller,) = local._children(str(shell.pid))
        assert local.find_job(logs) == min(str(shell.pid), controller, key=int)
        assert list(local.job_states([(str(shell.pid), logs)])) == [str(shell.pid)]
        assert local.job_states([(str(shell.pid), others), (str(os.getpid()), logs)]) == {}
        local.cancel([(str(shell.pid), logs)])
        assert shell.wait(PATIENCE) == 128 + signal.SIGTERM  # the controller ended by it, not the shell
    assert local.find_job(logs) is None


def test_a_job_that_does_not_stop_is_killed(tmp_path: Path) -> None:
    deaf = "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); open(sys.argv[1], 'w')"
    task = [sys.executable, "-c", f"{deaf}; time.sleep(300)", str(tmp_path / "deaf")]
    controller = f"import subprocess, signal; signal.signal(signal.SIGTERM, print); subprocess.run({task!r})"
    line = [sys.executable, "-c", controller, "-m", "submitit.local._local", str(tmp_path)]
    with subprocess.Popen(line, start_new_session=True) as process:
        job = (str(process.pid), tmp_path)
        wait_until((tmp_path / "deaf").exists, "its task runs, and is deaf")
        (child,) = local._children(job[0])
        local.cancel([job])
        assert local.end([job], grace=0.5) == [job[0]]
        assert process.wait(PATIENCE) == -signal.SIGKILL
        wait_until(lambda: not local._command_lines([child]).get(child), "its task has ended, too")
    assert local.end([job]) == []
