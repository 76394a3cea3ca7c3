"""The types of the whole tree hold for the first and the last Python that is promised, and for macOS."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT


# What exists in the first and in the last version exists in those between them.
@pytest.mark.slow
@pytest.mark.parametrize(("python", "platform"), [("3.10", "linux"), ("3.14", "darwin")], ids=["lowest", "newest, Mac"])
def test_types_hold_for_python_and_system(python: str, platform: str, tmp_path: Path) -> None:
    options = ["--python-version", python, "--platform", platform, "--cache-dir", tmp_path]
    command = [sys.executable, "-m", "mypy", *options, "--no-warn-unused-ignores"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
