"""Runs of tools/launch.py in tests: the tool called in this process, and small runs on this machine, watched."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import launch
from common import cli
from launcher.cluster import local
from tests.support.waiting import wait_until

Plan = Callable[..., "subprocess.CompletedProcess[str]"]


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> "subprocess.CompletedProcess[str]":
    """Run the tool in this process, which saves the seconds of a start; only for what starts no job."""
    line = ["tools/launch.py", *map(str, arguments)]
    capsys.readouterr()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", line)
        try:
            cli.run(launch.main)
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
    printed = capsys.readouterr()
    return subprocess.CompletedProcess(line, code, printed.out, printed.err)


def record(run: Path) -> dict[str, Any]:
    """Return the entries of record.json, by stage."""
    stages: dict[str, Any] = json.loads((run / "launch" / "record.json").read_text())["stages"]
    return stages


def jobs(run: Path) -> dict[str, list[str]]:
    """Return the ids of all jobs that each stage has had."""
    return {name: [job["job"] for job in stage["submissions"]] for name, stage in record(run).items()}


def last_step(folder: Path) -> int:
    """Return the last step in metrics.json; 0 before its first row."""
    path = folder / "metrics.json"
    rows = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")] if path.exists() else []
    return max((row.get("step", 0) for row in rows), default=0)


@contextlib.contextmanager
def controller(logs: Path) -> Iterator[str]:
    """A process that is, by its command line, submitit's controller of a job with these logs, and does nothing."""
    words = ["-c", "import time; time.sleep(300)", "-m", "submitit.local._local", str(logs)]
    with subprocess.Popen([sys.executable, *words], start_new_session=True) as process:
        try:
            wait_until(lambda: local.job_states([(str(process.pid), logs)]), "it has its command line")
            yield str(process.pid)
        finally:
            process.kill()


def tasks(run: Path, tool: str) -> list[int]:
    """Return the process ids of submitit's tasks of a run on this machine whose tool is running."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue  # has ended
        if any(word.startswith(str(run)) and word.endswith(f"/{tool}") for word in words):
            found.append(parent)
    return sorted(found)
