"""Every tool starts as a process of its own: what it imports is there, and it explains itself."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.support.tiers import slow_but

TOOLS = sorted(path.stem for path in (ROOT / "tools").glob("*.py"))


@pytest.mark.parametrize("name", slow_but(["evaluate", "launch"], TOOLS))
def test_a_tool_starts_and_shows_its_options(name: str, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "tools" / f"{name}.py"), "--help"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: ")


@pytest.mark.parametrize("name", ["check_dataset", "evaluate"])
def test_a_tool_of_annotations_starts_without_torch(name: str) -> None:
    """torch takes 200 times as long to import as the rest, and gigabytes of address space."""
    code = f"import sys; sys.path.insert(0, 'tools'); import {name}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
