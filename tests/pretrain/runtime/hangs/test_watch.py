"""Real runs that hang: each ends, and says where its processes were. One that only takes its time goes on."""

import os
import pathlib
import signal
import subprocess
import threading
import time
from collections.abc import Callable

import pytest

from pretrain.runtime import distributed, periodic_work, spawn
from pretrain.runtime.errors import UserError
from pretrain.runtime.hangs import processes, watch
from pretrain.runtime.hangs.clock import Clock
from pretrain.runtime.hangs.processes import Process
from pretrain.runtime.hangs.watch import HUNG
from tests.support.rank_scripts import JOIN, Rank
from tests.support.waiting import wait_until

LIMIT = 180  # seconds until a test gives up
MINUTES = "0.1"  # that a step may take
LONG = 15  # seconds that are more than that
STEPS = """\
import os
import pathlib
from pretrain.runtime.hangs import clock
from pretrain.runtime.periodic_work import PeriodicWork, Work, every, watched
def test(done, _):
    {test}
work = PeriodicWork([Work("test", every(5, 0), test)])
with watched(pathlib.Path(os.environ["RUN"])):
    work.run_pending()
    while work.done < {steps}:
        {step}
        distributed.barrier()
        time.sleep(0.02)
        work.advance()
        print("step", work.done, flush=True)
"""
FOREVER = {"steps": 10_000, "test": "pass", "step": "pass"}


def after_step(rank: Rank, number: int) -> None:
    wait_until(lambda: f"step {number}\n" in rank.said(), f"step {number}: {rank.said()}", LIMIT)


def stacks(run: pathlib.Path) -> dict[str, str]:
    """The files of the one attempt that hung."""
    (folder,) = (run / watch.FOLDER).iterdir()
    return {path.name: path.read_text() for path in folder.iterdir()}


@pytest.mark.parametrize("stopped", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_a_stopped_rank_ends_a_run_with_the_stacks(stopped: int, start: Callable, tmp_path: pathlib.Path) -> None:
    ranks = start(JOIN + STEPS.format(**FOREVER), 2, MOCO_HANG_MINUTES=MINUTES, RUN=str(tmp_path))
    for rank in ranks:
        after_step(rank, 3)
    ranks[stopped].send_signal(signal.SIGSTOP)
    other = ranks[1 - stopped]
    assert other.wait(LIMIT) == HUNG, other.said()
    assert ranks[stopped].wait(LIMIT) == -signal.SIGKILL  # it would keep the job, and its GPU
    found = stacks(tmp_path)
    assert list(found) == [f"rank_{1 - stopped}.txt"]
    assert "seconds after: waiting for step" in found[f"rank_{1 - stopped}.txt"]
    assert "in barrier" in found[f"rank_{1 - stopped}.txt"]
    said = other.said()
    assert said.count("error: the run hangs: ") == 1, said
    assert f"stacks of each rank: {tmp_path / watch.FOLDER}/" in said
    assert f"rank {stopped} (process {ranks[stopped].pid} of host " in said
    assert "wrote none: it is stopped, by a signal such as SIGSTOP" in said


def test_ranks_that_wait_for_different_things_all_tell(start: Callable, tmp_path: pathlib.Path) -> None:
    step = "if rank == 2 and work.done == 3: time.sleep(1000)"
    body = JOIN + STEPS.format(**{**FOREVER, "step": step})
    ranks = start(body, 3, MOCO_HANG_MINUTES=MINUTES, RUN=str(tmp_path))
    assert [rank.wait(LIMIT) for rank in ranks] == [HUNG] * 3
    found = stacks(tmp_path)
    assert sorted(found) == ["rank_0.txt", "rank_1.txt", "rank_2.txt"]
    assert "in barrier" in found["rank_0.txt"]
    assert "in barrier" not in found["rank_2.txt"]
    said = "".join(rank.said() for rank in ranks)
    assert said.count("the run hangs") == 1, said
    assert "wrote none" not in said


def test_a_single_process_that_waits_for_data_ends(start: Callable, tmp_path: pathlib.Path) -> None:
    """Its reader sleeps in the system, as one of a file server that is gone."""
    pipe = f"open({str(tmp_path / 'pipe')!r}, 'rb').read()"
    subprocess.run(["mkfifo", tmp_path / "pipe"], check=True)
    body = STEPS.format(**{**FOREVER, "step": f"if work.done == 3: {pipe}"})
    (rank,) = start(body, 1, MOCO_HANG_MINUTES=MINUTES, RUN=str(tmp_path))
    assert rank.wait(LIMIT) == HUNG, rank.said()
    assert "script.py" in stacks(tmp_path)["rank_0.txt"]
    assert "waiting for step 4 on rank 0" in rank.said()


@pytest.mark.slow
def test_a_long_test_is_no_hang(start: Callable, tmp_path: pathlib.Path) -> None:
    """One that gives no sign for longer than the limit, and one that gives signs."""
    signs = "[(clock.came_further('an image'), time.sleep(0.5)) for _ in range(2 * {LONG})]"
    for test in (f"time.sleep({LONG})", signs.format(LONG=LONG)):
        body = JOIN + STEPS.format(steps=6, test=test, step="pass")
        run = tmp_path / str(len(list(tmp_path.iterdir())))
        ranks = start(body, 2, MOCO_HANG_MINUTES=MINUTES, RUN=str(run))
        assert [rank.wait(LIMIT) for rank in ranks] == [0, 0], ranks[0].said()
        assert not run.exists()


def test_zero_minutes_let_a_run_wait(start: Callable, tmp_path: pathlib.Path) -> None:
    body = STEPS.format(steps=4, test="pass", step=f"if work.done == 3: time.sleep({LONG})")
    (rank,) = start(body, 1, MOCO_HANG_MINUTES="0", RUN=str(tmp_path / "run"))
    assert rank.wait(LIMIT) == 0, rank.said()


def test_a_run_that_was_stopped_and_continued_goes_on(start: Callable, tmp_path: pathlib.Path) -> None:
    """As by Ctrl-Z, or a laptop's lid."""
    (rank,) = start(STEPS.format(**FOREVER), 1, MOCO_HANG_MINUTES=MINUTES, RUN=str(tmp_path))
    after_step(rank, 3)
    rank.send_signal(signal.SIGSTOP)
    time.sleep(LONG)
    rank.send_signal(signal.SIGCONT)
    now = rank.said().count("step")
    wait_until(lambda: rank.said().count("step") > now + 20, "it goes on", LIMIT)
    time.sleep(3)
    assert rank.is_alive()


def test_sigquit_prints_stacks_and_ends_nothing(start: Callable, tmp_path: pathlib.Path) -> None:
    (rank,) = start(STEPS.format(**FOREVER), 1, RUN=str(tmp_path))
    after_step(rank, 3)
    rank.send_signal(signal.SIGQUIT)
    wait_until(lambda: "most recent call first" in rank.said(), "stacks are printed", LIMIT)
    now = rank.said().count("step")
    wait_until(lambda: rank.said().count("step") > now, "it goes on", LIMIT)


def test_a_file_system_that_hangs_costs_no_end(
    tmp_path: pathlib.Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stacks that cannot be written are printed. Here a file lies where the folder is to be."""
    (tmp_path / watch.FOLDER).write_text("")
    ended, told = list[int](), threading.Event()
    monkeypatch.setattr(watch.os, "_exit", lambda code: ended.append(code) or told.wait())
    noted = Clock(0.2)
    monkeypatch.setattr(watch, "ANSWER", 0.5)
    noted.came_further("step 1")
    noted.came_further("step 2")
    watched = watch.Watch(tmp_path, "now", noted, 0, [Process.this()])
    watched.patience = 1
    watched.start()
    wait_until(lambda: ended, "it ends", LIMIT)
    assert ended == [HUNG]
    told.set()
    watched.leave()  # a watch that goes on would end the process of the tests, once nothing is patched
    said = capfd.readouterr().err
    assert "most recent call first" in said
    assert "no stacks could be written" in said


def test_minutes_that_are_none_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("soon", "-1", "inf", "nan"):
        monkeypatch.setenv(watch.VARIABLE, text)
        with pytest.raises(UserError, match="must be the minutes"):
            periodic_work.read_hang_minutes()
    monkeypatch.delenv(watch.VARIABLE)
    assert periodic_work.read_hang_minutes() == periodic_work.HANG_MINUTES


def test_a_process_is_known_by_its_start() -> None:
    with subprocess.Popen(["sleep", "1000"]) as child:
        started = processes._stat(child.pid)[1]
        same = Process(Process.this().host, child.pid, started)
        other = Process(same.host, child.pid, started + "0")
        assert other.state() == ""
        other.end()
        assert child.poll() is None  # the id is another process's by now
        assert any(line.startswith(f"{child.pid} S ") for line in processes.describe_children(Process.this().pid))
        same.end()
        assert child.wait(LIMIT) in (-signal.SIGQUIT, -signal.SIGKILL)


def hang_on_a_rank(run: str) -> None:
    """For `spawn.run_on_ranks`: rank 1 stops itself."""
    work = periodic_work.PeriodicWork([])
    with periodic_work.watched(pathlib.Path(run)):
        work.run_pending()
        while True:
            distributed.barrier()
            work.advance()
            if distributed.rank() == 1 and work.done == 5:
                os.kill(os.getpid(), signal.SIGSTOP)


@pytest.mark.usefixtures("spawned_ranks")  # forked ones write to where the first of them did
def test_processes_of_one_command_end_together(
    tmp_path: pathlib.Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of `--num-gpus 2`: the command starts its ranks itself, and must not wait for one that is stopped."""
    monkeypatch.setenv(watch.VARIABLE, MINUTES)
    with pytest.raises(SystemExit) as end:
        spawn.run_on_ranks(hang_on_a_rank, 2, str(tmp_path))
    assert end.value.code == HUNG
    assert capfd.readouterr().err.count("the run hangs") == 1
    assert list(stacks(tmp_path)) == ["rank_0.txt"]
