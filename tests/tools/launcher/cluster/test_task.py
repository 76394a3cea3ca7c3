"""tools/launcher/cluster/task.py: what a task makes of the end of its tool."""

import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from launcher.cluster import task
from tests.conftest import ROOT
from tests.tools.launcher.health import nvidia_smi
from tests.tools.launcher.health.nvidia_smi import STATES

TASK = """
import os
import sys
import submitit
from launcher.cluster.task import Task
folder, tool = sys.argv[1:]
command = (sys.executable, "-c", tool, folder)
gpus = int(os.environ.get("GPUS", "0"))
log, tasks = folder + "/attempts.jsonl", gpus or 1
task = Task(command, folder, folder + "/result", False, True, log, tasks, folder, gpus=gpus)
submitit.DebugExecutor(folder).submit(task).results()
"""
WARNED = """
import os, signal, sys, time
signal.signal(signal.SIGUSR2, lambda *_: None)
os.kill(os.getppid(), signal.SIGUSR2)
signal.sigtimedwait([signal.SIGRTMIN], 1)
"""


@pytest.mark.parametrize(
    ("tool", "code", "end"),
    [
        (WARNED + "sys.exit(75)", 75, {"outcome": "stopped", "code": 75, "signal": "SIGUSR2"}),
        ("raise SystemExit(75)", 75, {"outcome": "stopped", "code": 75, "signal": None}),
        (WARNED + "sys.exit('no space left')", 1, {"outcome": "failed", "code": 1}),  # it did not save
        (WARNED + "os.kill(os.getpid(), signal.SIGKILL)", 137, {"outcome": "failed", "code": -9}),
        (WARNED + "open(sys.argv[1] + '/result', 'w')", 0, {"outcome": "finished", "code": 0}),
        ("", 1, {"outcome": "failed", "code": 1}),  # without a result
    ],
    ids=["stopped", "stopped unasked", "failed", "killed", "finished", "nothing"],
)
def test_a_stage_has_stopped_where_its_tool_says_so(tool: str, code: int, end: dict[str, Any], tmp_path: Path) -> None:
    done = run_task(tmp_path, tool)
    assert done.returncode == code, done.stderr
    message = [json.loads(line) for line in (tmp_path / "attempts.jsonl").read_text().splitlines()]
    assert [line["event"] for line in message] == ["start", "end"]
    assert message[1].items() >= end.items()


def run_task(folder: Path, tool: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", TASK, str(folder), tool]
    paths = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tools'}"}
    return subprocess.run(command, cwd=ROOT, env={**paths, **environment}, capture_output=True, text=True, check=False)


def test_a_container_command_that_is_not_there_is_told(tmp_path: Path) -> None:
    code = TASK.replace("(sys.executable, ", '("no-such-container", sys.executable, ')
    command = [sys.executable, "-c", code, str(tmp_path), "never run"]
    paths = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tools'}"}
    done = subprocess.run(command, cwd=ROOT, env=paths, capture_output=True, text=True, check=False)
    assert done.returncode == 127
    assert "error: no-such-container: cannot be run: No such file or directory\n" in done.stderr
    assert '"outcome": "failed"' in (tmp_path / "attempts.jsonl").read_text()


def test_a_log_that_cannot_be_written_ends_no_job(tmp_path: Path) -> None:
    (tmp_path / "attempts.jsonl").mkdir()
    done = run_task(tmp_path, "import sys; open(sys.argv[1] + '/result', 'w')")
    assert done.returncode == 0, done.stderr
    assert "attempts.jsonl: cannot be written: Is a directory" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_task_knows_nothing_of_the_shells_ranks(tmp_path: Path) -> None:
    tool = "import os, json, sys; json.dump(dict(os.environ), open(sys.argv[1] + '/result', 'w'))"
    shell = {"WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "gpu7", "TORCHELASTIC_RUN_ID": "x", "PET_NNODES": "2"}
    shell |= {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1", "LOCAL_RANK": "1", "GROUP_RANK": "1", "MINE": "3"}
    done = run_task(tmp_path, tool, **shell)
    assert done.returncode == 0, done.stderr
    assert shell.items() & json.loads((tmp_path / "result").read_text()).items() == {("MINE", "3")}


def test_an_end_says_how_far_the_newest_checkpoint_is(tmp_path: Path) -> None:
    tool = """
import sys
from pathlib import Path
folder = Path(sys.argv[1])
(folder / "last_checkpoint").write_text("model_0000014.pth")
(folder / "model_0000014.pth.json").write_text('{"file": "model_0000014.pth", "done": 15}')
sys.exit("out of memory")
"""
    run_task(tmp_path, tool)
    lines = [json.loads(line) for line in (tmp_path / "attempts.jsonl").read_text().splitlines()]
    assert [line["position"] for line in lines] == [0, 15]


def test_what_another_node_wrote_is_waited_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It appears in a folder that this machine does not see at first, either."""
    late, there = tmp_path / "convert" / "backbone.pkl", tmp_path / "there"
    there.touch()

    def write() -> None:
        late.parent.mkdir()
        late.touch()

    timer = threading.Timer(1, write)
    timer.start()
    task.await_files([there, late])
    assert late.exists()
    timer.join()
    assert capsys.readouterr().out == f"waiting     up to 60 s for {late}, which this machine does not see yet\n"
    begun = time.monotonic()
    task.await_files([tmp_path / "never", tmp_path / "either"], patience=1)  # the tool says what is missing
    assert time.monotonic() - begun < 30


def test_a_task_imports_no_torch(tmp_path: Path) -> None:
    code = "import sys\nimport launcher.cluster.task\nprint('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tools'}"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout == "False\n", done.stdout + done.stderr


def test_a_job_of_several_gpus_ends_on_a_broken_one(tmp_path: Path) -> None:
    broken = STATES.replace("81559, 0", "81559, 3", 1)
    path = nvidia_smi.write(tmp_path / "bin", {"--query-gpu=index": broken})
    done = run_task(tmp_path, "import sys; open(sys.argv[1] + '/result', 'w')", PATH=path, GPUS="2")
    assert done.returncode == 70, done.stderr
    assert re.search(r"^error: \S+: GPU 0 has had 3 uncorrected memory errors", done.stderr, re.MULTILINE)
    lines = [json.loads(line) for line in (tmp_path / "attempts.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["start", "unhealthy", "end"]
    assert lines[1]["hosts"] == [lines[0]["host"]]
    assert lines[2].items() >= {"outcome": "failed", "code": 70}.items()


def test_without_a_driver_a_job_of_several_gpus_starts(tmp_path: Path) -> None:
    done = run_task(tmp_path, "import sys; open(sys.argv[1] + '/result', 'w')", PATH=str(tmp_path), GPUS="2")
    assert done.returncode == 0, done.stderr
    assert "not checked: there is no nvidia-smi" in done.stdout


def test_a_hang_is_logged_with_its_stacks(tmp_path: Path) -> None:
    tool = "import os, sys; [os.makedirs(sys.argv[1] + '/hang/' + time) for time in ('2026-01-02', '2026-01-01')]"
    assert run_task(tmp_path, tool + "; sys.exit(76)").returncode == 76
    end = json.loads((tmp_path / "attempts.jsonl").read_text().splitlines()[-1])
    assert (end["outcome"], end["stacks"]) == ("hung", str(tmp_path / "hang" / "2026-01-02"))
