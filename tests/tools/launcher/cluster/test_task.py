"""tools/launcher/cluster/task.py: what a task makes of the end of its tool."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

TASK = """
import sys
import submitit
from launcher.cluster.task import Task
folder, tool = sys.argv[1:]
command = (sys.executable, "-c", tool, folder)
task = Task(command, folder, folder + "/result", False, True, folder + "/attempts.jsonl", 1)
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
    command = [sys.executable, "-c", TASK, str(tmp_path), tool]
    paths = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tools'}"}
    done = subprocess.run(command, cwd=ROOT, env=paths, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    message = [json.loads(line) for line in (tmp_path / "attempts.jsonl").read_text().splitlines()]
    assert [line["event"] for line in message] == ["start", "end"]
    assert message[1].items() >= end.items()


def test_a_task_imports_no_torch(tmp_path: Path) -> None:
    code = "import sys\nimport launcher.cluster.task\nprint('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tools'}"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout == "False\n", done.stdout + done.stderr
