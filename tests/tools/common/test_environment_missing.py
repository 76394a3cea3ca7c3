"""A Python without the packages of the environment is told so in a sentence, by every script and by the command."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

TOOLS = sorted(path.name for path in (ROOT / "tools").glob("*.py"))


@pytest.mark.parametrize("name", [*TOOLS, "-m"])
def test_a_python_without_the_environment_is_told_so(name: str, tmp_path: Path) -> None:
    program = ["-m", "moco_transfer", "pretrain"] if name == "-m" else [str(ROOT / "tools" / name)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-S", *program, "--help"],  # -S: without site-packages
        cwd=ROOT if name == "-m" else tmp_path, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("error: numpy, rich, torch, yaml: not there for this Python, ")
    assert ".venv/bin/activate" in done.stderr
    assert len(done.stderr.splitlines()) == 1
