"""What tests of several folders share: tools run as a user runs them, and a tiny data set."""

import os
import signal
import subprocess
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from PIL import Image

from tests.support import forked_ranks as forking
from tests.support import forked_tools
from tests.support.left_out import (  # noqa: F401 (hooks of pytest)
    pytest_deselected,
    pytest_sessionfinish,
    pytest_terminal_summary,
    pytest_testnodedown,
)

# Tests assert behaviour, never times; and one that has failed fails again.
hypothesis.settings.register_profile("ours", deadline=None, derandomize=True)
hypothesis.settings.load_profile("ours")

# Runs that are compared bit by bit need the same number of threads; a run by itself takes as many as others leave.
os.environ.setdefault("OMP_NUM_THREADS", "1")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # `make test &` in a script; what tests start would ignore it too
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let a report travel to the main process whose test logged a file name that is not UTF-8."""
    report = yield
    report.sections = [(title, text.encode(errors="backslashreplace").decode()) for title, text in report.sections]
    return report


ROOT = Path(__file__).resolve().parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"


@pytest.fixture(autouse=True, scope="session")
def forked_ranks() -> Iterator[None]:
    """Processes of one test that talk to each other are forked from a prepared one."""
    with forking.forked():
        yield


@pytest.fixture
def spawned_ranks() -> Iterator[None]:
    """The ranks of this test are started as a user's: each a Python of its own, which imports all."""
    with forking.spawned():
        yield


Tool = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(autouse=True)
def same_folder() -> Iterator[None]:
    """A test that changes the current folder, in this process, changes it for itself alone."""
    before = Path.cwd()
    yield
    os.chdir(before)


@pytest.fixture(scope="session")
def prepared() -> Iterator[forked_tools.Server]:
    """A process that has imported what is slow to import, and runs scripts by forks."""
    server = forked_tools.Server()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def tool(prepared: forked_tools.Server) -> Tool:
    """Runs `python tools/<name>.py arguments...` from the repository root and returns what it printed.

    The process is forked from a prepared one; tests/tools/test_starts.py starts every tool for real.
    """

    def run(name: str, *arguments: object, **environment: str) -> "subprocess.CompletedProcess[str]":
        env = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
        return prepared.run([f"tools/{name}.py", *map(str, arguments)], ROOT, env, 600)

    return run


@pytest.fixture(scope="session")
def scenes(tool: Tool, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny data set in VOC and COCO layout, from tools/make_scenes.py."""
    root = tmp_path_factory.mktemp("data") / "scenes"
    made = tool("make_scenes", "--output", root, "--unlabelled", 8, "--train", 8, "--test", 8)
    if made.returncode:
        raise RuntimeError(made.stderr)
    return root


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of nine small images of noise."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for index in range(9):
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(folder / f"{index}.png")
    return folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real images; skips where they are not."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no real data: {SHARED_DATA} is not there")
    return SHARED_DATA


def refused(result: "subprocess.CompletedProcess[str]", *named: object) -> None:
    """A tool refused bad input: exit code 2, one message that names everything in `named`, no traceback."""
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    for name in named:
        assert str(name) in result.stderr
