"""The types of the whole tree hold for the last Python that is promised, and for macOS.

`make lint` checks them for the first one, on Linux: what exists in both versions exists in those between them.
"""

import subprocess
import sys

import pytest

from tests.conftest import ROOT


@pytest.mark.slow
def test_types_hold_for_the_newest_python_and_a_mac() -> None:
    options = ["--python-version", "3.14", "--platform", "darwin"]  # mypy's cache has a part for each version
    command = [sys.executable, "-m", "mypy", *options, "--no-warn-unused-ignores"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
