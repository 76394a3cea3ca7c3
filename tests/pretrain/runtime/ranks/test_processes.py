"""Real processes of one run: how they meet, and how an error of one reaches the user and ends the others."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from pretrain.runtime.ranks import first_errors
from tests.support.rank_scripts import FOREVER, JOIN, Rank, free_port, write_script
from tests.support.waiting import wait_until

LIMIT = 120  # seconds until a test gives up


def ends(processes: list[Rank]) -> tuple[list[int], str]:
    """The exit codes, and all that they said."""
    codes = [process.wait(LIMIT) for process in processes]
    return codes, "".join(process.said() for process in processes)


HOST = socket.gethostname()
MISTAKE_AFTER = JOIN + 'if rank == 1: raise UserError("no such folder: /data")\n' + FOREVER


def test_a_mistake_of_one_rank_is_told_and_ends_all(start: Callable) -> None:
    codes, said = ends(start(MISTAKE_AFTER, 3))
    assert codes == [2, 2, 2], said
    assert said == f"error on rank 1 of host {HOST}: no such folder: /data\n"


@pytest.mark.slow
def test_a_bug_of_one_rank_keeps_its_traceback(start: Callable) -> None:
    codes, said = ends(start(JOIN + 'if rank == 2: {}["key"]\n' + FOREVER, 3))
    assert codes == [1, 1, 1], said
    assert said.startswith(f"error on rank 2 of host {HOST}:\nTraceback")
    assert said.endswith("KeyError: 'key'\n")


def test_a_mistake_of_all_ranks_is_told_once(start: Callable) -> None:
    for body in ("", JOIN):
        codes, said = ends(start(body + 'raise UserError("no such folder: /data")', 3))
        assert codes == [2, 2, 2], said
        assert said == "error: no such folder: /data\n"


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_an_error_that_all_agree_on_names_who_met_it(rank: int, start: Callable) -> None:
    """A file that one machine lacks, and a bug with its own traceback."""
    body = f'error = UserError("no such file: /data/a.jpg") if rank == {rank} else None\ndistributed.agree(error)'
    codes, said = ends(start(JOIN + body, 3))
    assert codes == [2, 2, 2], said
    assert said == f"error on rank {rank} of host {HOST}: no such file: /data/a.jpg\n"
    body = f'error = None\ntry:\n    if rank == {rank}: {{}}["key"]\nexcept KeyError as met: error = met\n'
    codes, said = ends(start(JOIN + body + "distributed.agree(error)", 3))
    assert codes == [1, 1, 1], said
    assert said.count("Traceback") == 1
    assert """{}["key"]""" in said


def test_a_mistake_of_the_main_rank_is_one_of_all(start: Callable) -> None:
    body = JOIN + 'def find(): raise UserError("no such folder: /data")\ndistributed.on_main(find)'
    codes, said = ends(start(body, 2))
    assert codes == [2, 2], said
    assert said == "error: no such folder: /data\n"


@pytest.mark.slow
def test_different_mistakes_are_all_told(start: Callable) -> None:
    codes, said = ends(start(JOIN + 'raise UserError(f"no such folder: /data{rank % 2}")', 3))
    assert codes == [2, 2, 2], said
    assert sorted(said.splitlines()) == [
        f"error on rank 1 of host {HOST}: no such folder: /data1",
        f"error on ranks 0, 2 of host {HOST}: no such folder: /data0",
    ]


@pytest.mark.slow
def test_the_mistake_of_a_rank_without_a_turn_is_told(start: Callable) -> None:
    """A process that the system runs only seconds later, as on a busy machine."""
    body = JOIN + "if rank == 2: os.kill(os.getpid(), 19)\n"
    processes = start(body + 'raise UserError(f"no such folder: /data{rank % 2}")', 3)
    stopped = pathlib.Path(f"/proc/{processes[2].pid}/stat")
    wait_until(lambda: stopped.read_text().rpartition(")")[2].split()[0] == "T", "the process has stopped")
    time.sleep(first_errors.PATIENCE + 2)
    processes[2].send_signal(signal.SIGCONT)
    codes, said = ends(processes)
    assert codes == [2, 2, 2], said
    assert f"error on ranks 0, 2 of host {HOST}: no such folder: /data0" in said.splitlines()


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_mistake_before_the_meeting_ends_those_who_wait(rank: int, start: Callable) -> None:
    codes, said = ends(start(f'if rank == {rank}: raise UserError("no such file: a.yaml")\n' + MISTAKE_AFTER, 2))
    assert codes == [2, 2], said
    assert said == f"error on rank {rank} of host {HOST}: no such file: a.yaml\n"


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_rank_ends_the_others(rank: int, start: Callable) -> None:
    body = JOIN + f"if rank == {rank}: os.kill(os.getpid(), 9)\n" + FOREVER
    codes, said = ends(start(body, 3))
    assert codes == [-9 if one == rank else 1 for one in range(3)], said
    assert "without a message" in said or "left no message" in said


def test_torchrun_tells_the_error_of_a_rank(tmp_path: pathlib.Path) -> None:
    script = write_script(tmp_path, MISTAKE_AFTER)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "3", str(script)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(torchrun, env=environment, capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode != 0
    assert done.stderr.count("no such folder: /data") == 1, done.stderr
    assert f"error on rank 1 of host {HOST}: no such folder: /data\n" in done.stderr


@pytest.mark.slow
def test_waiting_is_said_and_hears_signals(start: Callable) -> None:
    (process,) = start(JOIN, 2, [0])
    line = process.first_line(LIMIT)
    assert line.startswith("waiting for 1 of 2 processes (rank 1) at 127.0.0.1:"), line
    assert "WORLD_SIZE=2" in line
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == -signal.SIGTERM


@pytest.mark.slow
def test_a_rank_without_rank_0_says_where_it_waits(start: Callable) -> None:
    (process,) = start(JOIN, 2, [1])
    line = process.first_line(LIMIT)
    assert line.startswith("waiting for rank 0 of 2 processes at 127.0.0.1:"), line
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130


@pytest.mark.slow
def test_waiting_ends_with_one_message(start: Callable) -> None:
    body = "from pretrain.runtime.ranks import meeting\nmeeting.LIMIT = 4\n" + JOIN
    codes, said = ends(start(body, 3, [0, 1]))
    assert codes == [2, 2], said
    assert said.count("waited 4 s, and gave up for 1 of 3 processes (rank 2)") == 1
    assert "Traceback" not in said


@pytest.mark.slow
def test_a_stop_while_waiting_is_a_stop_of_all(start: Callable) -> None:
    body = "from pretrain.runtime.signals import Stopped, StopRequest\nwith StopRequest() as stop:\n"
    body += '    try: distributed.init("cpu", {}, lambda: stop.name)\n    except Stopped: sys.exit(75)'
    processes = start(body, 3, [0, 1])
    assert processes[0].first_line(LIMIT).startswith("waiting for 1 of 3")
    processes[1].send_signal(signal.SIGUSR1)
    codes, said = ends(processes)
    assert codes == [75, 75], said
    assert "stopped by SIGUSR1 while waiting" in said


def test_processes_that_differ_are_told(start: Callable) -> None:
    codes, said = ends(start('SETTINGS["optim.lr"] = rank // 2\n' + JOIN, 3))
    assert codes == [2, 2, 2], said
    assert said == (
        "error: the processes of this run do not fit together:\n"
        f"  optim.lr differs: 0 on rank 0 of host {HOST}, 1 of host {HOST}; 1 on rank 2 of host {HOST}\n"
    )


@pytest.mark.slow
def test_a_port_of_another_program_is_one_message(start: Callable) -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        codes, said = ends(start(JOIN, 2, MASTER_PORT=str(taken.getsockname()[1])))
    assert codes == [2, 2], said
    assert "another program has it. Set MASTER_PORT to a free port" in said
    assert "Traceback" not in said


@pytest.mark.slow
def test_a_rank_that_is_there_twice_is_refused(start: Callable) -> None:
    port = str(free_port())
    waiting = start(JOIN + FOREVER, 3, [0, 1], MASTER_PORT=port)
    assert "(rank 2)" in waiting[0].first_line(LIMIT)
    codes, said = ends(start(JOIN, 3, [1], MASTER_PORT=port))
    assert codes == [2]
    assert "rank 1 is here twice" in said
    assert all(process.is_alive() for process in waiting)  # another run's mistake is none of theirs


@pytest.mark.slow
def test_a_wrong_interface_is_explained(start: Callable) -> None:
    codes, said = ends(start(JOIN, 2, GLOO_SOCKET_IFNAME="nosuch0"))
    assert codes == [2, 2], said
    assert "GLOO_SOCKET_IFNAME is nosuch0" in said
    assert "Traceback" not in said


def test_a_long_scan_of_the_images_ends_no_rank(start: Callable, tmp_path: pathlib.Path) -> None:
    """Rank 0 alone looks through them; elsewhere a rank that waits for so long gives up."""
    (tmp_path / "1.jpg").touch()
    body = f"""
import datetime, pathlib
distributed.TIMEOUT = datetime.timedelta(seconds=2)
distributed.init("cpu")
from pretrain.data.images import shared_set
look = shared_set.open_images
shared_set.open_images = lambda root: time.sleep(6) or look(root)
size = shared_set.find_images({str(tmp_path)!r}, pathlib.Path({str(tmp_path / "index")!r})).size
print(f"{{size}} image\\n", end="", flush=True)
distributed.shutdown()
"""
    codes, said = ends(start(body, 2))
    assert codes == [0, 0], said
    assert said.splitlines() == ["1 image"] * 2
