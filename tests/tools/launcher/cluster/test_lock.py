"""The lock where files cannot be locked, between real processes to which the kernel refuses POSIX locks."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from launcher.cluster import lock
from tests.conftest import ROOT
from tests.support.waiting import wait_until

Start = Callable[..., "subprocess.Popen[str]"]
SITE = f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'tools')!r}]; from pathlib import Path\n"
NO_LOCKS = """
import errno, fcntl, os
def lockf(*_):
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
fcntl.lockf = lockf
"""
COUNT = """
from launcher.cluster import lock
lock._PAUSE = 0.001
file, counter = Path(sys.argv[1]), Path(sys.argv[2])
for _ in range(20):
    with lock.locked(file):
        number = int(counter.read_text())
        counter.write_text("")  # what another would read
        counter.write_text(str(number + 1))
"""
HOLD = """
from launcher.cluster import lock
with lock.locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a process that takes the lock tmp_path/lock, for which there are no POSIX locks."""
    started: list[subprocess.Popen[str]] = []

    def begin(code: str, *more: object) -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", SITE + NO_LOCKS + code, str(tmp_path / "lock"), *map(str, more)]
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        started.append(subprocess.Popen(command, text=True, **pipes))  # type: ignore[call-overload]
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """No POSIX locks in this process."""
    monkeypatch.setattr(lock, "_take_posix", lambda *_: "Function not implemented")


def test_one_at_a_time_holds_it(start: Start, tmp_path: Path) -> None:
    (tmp_path / "counter").write_text("0")
    processes = [start(COUNT, tmp_path / "counter") for _ in range(4)]
    said = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, said
    assert (tmp_path / "counter").read_text() == "80"
    assert {path.name for path in tmp_path.iterdir()} == {"counter", "lock"}  # nothing is left of the folder
    for text in said:  # once each
        assert text == (
            f"warning: {tmp_path}: no file can be locked there (Function not implemented); the folder lock.held/ is "
            "the lock\n"
        )


def test_the_lock_of_a_killed_process_is_taken_over(start: Start, tmp_path: Path, without_locks: None) -> None:
    holder = start(HOLD)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    waiting = start(COUNT, tmp_path / "counter")
    (tmp_path / "counter").write_text("0")
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(1)
    holder.kill()
    holder.wait()
    assert waiting.wait(60) == 0
    assert (tmp_path / "counter").read_text() == "20"


@pytest.mark.parametrize(("age", "taken"), [(lock.TOO_OLD + 60, True), (lock.TOO_OLD - 60, False)])
def test_of_another_machine_it_is_taken_over_once_old(tmp_path: Path, start: Start, age: float, taken: bool) -> None:
    """Whether a process there is alive cannot be asked; one that is touches its file every minute."""
    holder = tmp_path / "lock.held" / f"elsewhere_{os.getpid()}_abc"
    holder.parent.mkdir()
    holder.touch()
    before = holder.stat().st_mtime - age
    os.utime(holder, (before, before))
    process = start(HOLD)
    assert process.stdout is not None
    if taken:
        assert process.stdout.readline() == "held\n"
        assert not holder.exists()
    else:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1)
        assert holder.exists()


def test_a_live_process_of_this_machine_keeps_it(tmp_path: Path, without_locks: None) -> None:
    with lock.locked(tmp_path / "lock"):
        (holder,) = (tmp_path / "lock.held").iterdir()
        assert holder.name.startswith(f"{socket.gethostname()}_{os.getpid()}_")
        assert not lock._is_gone(holder)


def test_a_holder_gives_signs_of_life(tmp_path: Path, without_locks: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "_ALIVE", 0.01)
    with lock.locked(tmp_path / "lock"):
        (holder,) = (tmp_path / "lock.held").iterdir()
        os.utime(holder, (0, 0))
        wait_until(lambda: holder.stat().st_mtime > 0, "the holder says that it is alive")


def test_who_waits_for_long_hears_for_whom(start: Start, tmp_path: Path) -> None:
    first = start(HOLD)
    assert first.stdout is not None
    assert first.stdout.readline() == "held\n"
    second = start(HOLD.replace("with lock", "lock._PATIENCE = 0\nwith lock"))
    assert second.stderr is not None
    assert second.stderr.readline().startswith("warning: ")
    assert second.stderr.readline() == (
        f"waiting     for process {first.pid} on {socket.gethostname()}, which holds {tmp_path}/lock.held\n"
    )
