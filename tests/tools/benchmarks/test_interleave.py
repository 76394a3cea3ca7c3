"""tools/benchmarks/interleave.py: who works when, and what happens when one of them fails."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.errors import BenchmarkError
from benchmarks.interleave import Contender, take_turns
from pretrain.runtime import distributed
from tests.conftest import ROOT


class Clock:
    """A runner that says when it worked."""

    def __init__(self, name: str) -> None:
        self.name, self.count = name, 0

    def turn(self) -> dict[str, Any]:
        begin = time.monotonic()
        if self.name == "refuses":
            raise BenchmarkError("no such thing")
        if self.name == "dies":
            os._exit(9)
        self.count += 1
        time.sleep(0.02)
        return {"begin": begin, "end": time.monotonic(), "process": os.getpid()}

    def report(self) -> dict[str, Any]:
        return {"name": self.name, "turns": self.count, "ranks": distributed.all_gather_object(distributed.rank())}


def contenders(*names: str) -> dict[str, Contender]:
    return {name: Contender(Clock, (name,)) for name in names}


def test_one_works_at_a_time_each_in_a_process_of_its_own() -> None:
    said: list[tuple[str, int, int]] = []
    found = take_turns(contenders("a", "b", "c"), 3, tell=lambda *news: said.append(news))
    assert [outcome.report for outcome in found.values()] == [
        {"name": name, "turns": 3, "ranks": [0]} for name in ("a", "b", "c")
    ]
    order = [outcome.turns[number] for number in range(3) for outcome in found.values()]  # A B C A B C A B C
    times = [turn[key] for turn in order for key in ("begin", "end")]
    assert times == sorted(times)
    assert len({turn["process"] for turn in order} | {os.getpid()}) == 4
    assert said[0] == ("a: start", 0, 15)
    assert said[4] == ("b: turn 1 of 3", 4, 15)
    assert said[-1] == ("c: report", 14, 15)


@pytest.mark.slow
def test_a_contender_may_have_several_processes() -> None:
    found = take_turns(contenders("a", "b"), 2, processes=2)
    assert [outcome.report["ranks"] for outcome in found.values()] == [[0, 1], [0, 1]]


@pytest.mark.parametrize(("name", "said"), [("refuses", "^no such thing$"), ("dies", "dies: a process died")])
def test_the_failure_of_one_ends_all(name: str, said: str) -> None:
    with pytest.raises(BenchmarkError, match=said):
        take_turns(contenders("a", name, "b"), 2)


def test_signals_that_the_server_of_processes_has_blocked_keep_nobody_alive(tmp_path: Path) -> None:
    """It is the one of pretrain/runtime/signals.py, where a loader with workers was made before in the same process."""
    script = tmp_path / "shielded.py"
    script.write_text(
        "from benchmarks.interleave import take_turns\nfrom pretrain.runtime import signals\n"
        "from tests.tools.benchmarks.test_interleave import contenders\n"
        "if __name__ == '__main__':\n    signals.shield_workers()\n    take_turns(contenders('a', 'refuses'), 2)\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tools'}"}
    ended = subprocess.run([sys.executable, str(script)], env=environment, stderr=subprocess.PIPE, timeout=60)
    assert b"BenchmarkError: no such thing" in ended.stderr


def test_who_waits_ends_when_the_tool_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "killed.py"
    script.write_text(
        "import os\nfrom benchmarks.interleave import take_turns\n"
        "from tests.tools.benchmarks.test_interleave import contenders\n"
        "def tell(said, done, of):\n    if said.startswith('b: turn'):\n        os.kill(os.getpid(), 9)\n"
        "if __name__ == '__main__':\n    take_turns(contenders('a', 'b'), 9, tell=tell)\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tools'}"}
    killed = subprocess.run([sys.executable, str(script)], env=environment, stderr=subprocess.PIPE, timeout=120)
    assert killed.returncode == -9  # and whoever held the other end of its standard error has left
    assert b"Traceback" not in killed.stderr
