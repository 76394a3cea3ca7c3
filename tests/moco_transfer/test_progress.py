"""The lines of a command on a terminal, in a notebook and in a file."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from moco_transfer.progress import Shower, shower
from tests.conftest import ROOT

LINES = ["begins", "step 1/10  epoch 0  loss 1.5", "step 2/10  loss 1", "iteration 3/10  loss 0.5", "saved", "ends"]


def test_a_step_takes_the_place_of_the_one_before(capsys: pytest.CaptureFixture[str]) -> None:
    show = Shower(replaces=True)
    for line in LINES:
        show(line)
    show.end()
    hides_all = LINES[2].ljust(len(LINES[1]))
    assert capsys.readouterr().out == f"begins\n{LINES[1]}\r{hides_all}\r{LINES[3]}\nsaved\nends\n"


def test_a_step_at_the_end_is_a_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    show = Shower(replaces=True, width=9)
    show(LINES[1])
    show.end()
    show.end()
    assert capsys.readouterr().out == "step 1/10\n"


def test_a_file_gets_every_line(capsys: pytest.CaptureFixture[str]) -> None:
    show = shower(True)  # pytest's own capture is no terminal
    for line in LINES:
        show(line)
    show.end()
    assert capsys.readouterr().out.splitlines() == LINES


def test_nothing_is_shown_or_a_function_is_called(capsys: pytest.CaptureFixture[str]) -> None:
    taken: list[str] = []
    for show in (shower(False), shower(taken.append)):
        show("a line")
        show.end()
    assert taken == ["a line"]
    assert capsys.readouterr().out == ""


def test_a_terminal_is_not_wrapped(tmp_path: Path) -> None:
    master, slave = pty.openpty()
    program = "from moco_transfer.progress import shower; s = shower(True); s('step 1/2 ' + 'x' * 200); s.end()"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "40"}
    subprocess.run([sys.executable, "-c", program], stdout=slave, env=environment, cwd=tmp_path, check=True)
    os.close(slave)
    shown = os.read(master, 1000).decode()
    os.close(master)
    assert shown == ("step 1/2 " + "x" * 200)[:39] + "\r\n"
