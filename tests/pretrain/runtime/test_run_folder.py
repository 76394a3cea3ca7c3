"""The lock on a run's folder, between processes: refused in words, released by any death, absent with a warning."""

import errno
import fcntl
import logging
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
from typing import Any

import pytest

from pretrain.runtime import run_folder
from pretrain.runtime.errors import UserError
from tests.conftest import ROOT

HOLD = """
import os, pathlib, sys, time
from pretrain.runtime import run_folder
with run_folder.locked(pathlib.Path(sys.argv[1])):
    if os.fork() == 0:  # as a loader worker that outlives its parent
        time.sleep(60)
        os._exit(0)
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: pathlib.Path) -> Any:
    """A process that holds the lock until its standard input ends, with a child."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    environment = {**os.environ, "SLURM_JOB_ID": "4711", "OMP_NUM_THREADS": "1"}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True, **pipes) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def test_a_second_start_is_refused_and_hears_who_is_there(
    holder: Any, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(run_folder, "PATIENCE", 0.3)
    with pytest.raises(UserError) as refused, run_folder.locked(tmp_path / "run"):
        raise RuntimeError("both are in")
    who = f"process {holder.pid} on {socket.gethostname()}, SLURM job 4711, since 20"
    assert f"output folder {tmp_path / 'run'}: another start is using it ({who}" in str(refused.value)
    assert "Wait for the other or stop it, or choose another output folder" in str(refused.value)
    assert "waiting up to" in caplog.text


def test_death_releases_the_lock_although_a_child_lives(holder: Any, tmp_path: pathlib.Path) -> None:
    holder.kill()
    holder.wait()
    with run_folder.locked(tmp_path / "run"):
        assert str(os.getpid()) in (tmp_path / "run" / run_folder.LOCK).read_text()


def test_a_start_takes_over_from_one_that_is_ending(holder: Any, tmp_path: pathlib.Path) -> None:
    timer = threading.Timer(0.5, holder.stdin.close)
    timer.start()
    with run_folder.locked(tmp_path / "run"):
        timer.join()


def test_a_folder_left_empty_goes_again_and_others_stay(tmp_path: pathlib.Path) -> None:
    with run_folder.locked(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b").is_dir()
    assert not (tmp_path / "a").exists()
    with run_folder.locked(tmp_path / "a" / "b"):
        (tmp_path / "a" / "b" / "metrics.json").touch()
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["metrics.json"]
    (tmp_path / "empty").mkdir()
    with run_folder.locked(tmp_path / "empty"):
        pass
    assert (tmp_path / "empty").is_dir()


def test_a_file_system_without_locks_gets_a_warning(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "lockf", no_locks)
    with run_folder.locked(tmp_path / "run"):
        assert "this file system has no locks (No locks available)" in caplog.text


def test_a_folder_that_cannot_be_made_is_named(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(UserError, match=f"output folder {tmp_path}/file/run: cannot be written: Not a directory"),
        run_folder.locked(tmp_path / "file" / "run"),
    ):
        pass


def test_log_and_command_hold_names_that_are_no_utf8(tmp_path: pathlib.Path) -> None:
    name, logger = os.fsdecode(b"caf\xe9.jpg"), logging.getLogger("names")
    run_folder.write_description(tmp_path, "", ["tool", name], {})
    assert (tmp_path / "command.txt").read_bytes() == b"tool 'caf\xe9.jpg'\n"
    with run_folder.logging_to(tmp_path, logger):
        logger.warning("broken: %s", name)
    assert "broken: caf\\udce9.jpg" in (tmp_path / "log.txt").read_text()


def test_a_folder_whose_name_is_not_utf8_is_refused(tmp_path: pathlib.Path) -> None:
    folder = pathlib.Path(os.fsdecode(os.fsencode(tmp_path) + b"/out\xff"))
    with pytest.raises(UserError, match=r"out\\xff: its name is not UTF-8"), run_folder.locked(folder):
        pass
    assert not list(tmp_path.iterdir())
