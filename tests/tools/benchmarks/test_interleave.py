"""tools/benchmarks/interleave.py: who works when, and what happens when one of them fails."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.arguments import BenchmarkError
from benchmarks.interleave import Candidate, run_interleaved
from pretrain.runtime import distributed
from tests.conftest import ROOT


class Clock:
    """A runner that says when it worked."""

    def __init__(self, name: str) -> None:
        self.name, self.count = name, 0

    def measure(self) -> dict[str, Any]:
        begin = time.monotonic()
        if self.name == "refuses":
            raise BenchmarkError("no such thing")
        if self.name == "dies":
            os._exit(9)
        self.count += 1
        time.sleep(0.02)
        return {"begin": begin, "end": time.monotonic(), "process": os.getpid()}

    def report(self) -> dict[str, Any]:
        return {"name": self.name, "rounds": self.count, "ranks": distributed.all_gather_object(distributed.rank())}


def candidates(*names: str) -> dict[str, Candidate]:
    return {name: Candidate(Clock, (name,)) for name in names}


def test_one_works_at_a_time_each_in_a_process_of_its_own() -> None:
    said: list[tuple[str, int, int]] = []
    found = run_interleaved(candidates("a", "b", "c"), 3, on_progress=lambda *news: said.append(news))
    assert [outcome.report for outcome in found.values()] == [
        {"name": name, "rounds": 3, "ranks": [0]} for name in ("a", "b", "c")
    ]
    order = [outcome.rounds[number] for number in range(3) for outcome in found.values()]  # A B C A B C A B C
    times = [one[key] for one in order for key in ("begin", "end")]
    assert times == sorted(times)
    assert len({one["process"] for one in order} | {os.getpid()}) == 4
    assert said[0] == ("a: start", 0, 15)
    assert said[4] == ("b: round 1 of 3", 4, 15)
    assert said[-1] == ("c: report", 14, 15)


@pytest.mark.slow
def test_a_candidate_may_have_several_processes() -> None:
    found = run_interleaved(candidates("a", "b"), 2, processes=2)
    assert [outcome.report["ranks"] for outcome in found.values()] == [[0, 1], [0, 1]]


@pytest.mark.parametrize(("name", "said"), [("refuses", "^no such thing$"), ("dies", "dies: a process died")])
def test_the_failure_of_one_ends_all(name: str, said: str) -> None:
    with pytest.raises(BenchmarkError, match=said):
        run_interleaved(candidates("a", name, "b"), 2)


def test_signals_blocked_by_the_forkserver_keep_nobody_alive(tmp_path: Path) -> None:
    """It is the one of pretrain/runtime/signals.py, where a loader with workers was made before in the same process."""
    script = tmp_path / "shielded.py"
    script.write_text(
        "from benchmarks.interleave import run_interleaved\nfrom pretrain.runtime import signals\n"
        "from tests.tools.benchmarks.test_interleave import candidates\n"
        "if __name__ == '__main__':\n    signals.shield_workers()\n    run_interleaved(candidates('a', 'refuses'), 2)\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tools'}"}
    ended = subprocess.run([sys.executable, str(script)], env=environment, stderr=subprocess.PIPE, timeout=600)
    assert b"BenchmarkError: no such thing" in ended.stderr


def test_who_waits_ends_when_the_tool_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "killed.py"
    script.write_text(
        "import os\nfrom benchmarks.interleave import run_interleaved\n"
        "from tests.tools.benchmarks.test_interleave import candidates\n"
        "def on_progress(piece, done, of):\n    if piece.startswith('b: round'):\n        os.kill(os.getpid(), 9)\n"
        "if __name__ == '__main__':\n    run_interleaved(candidates('a', 'b'), 9, on_progress=on_progress)\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tools'}"}
    killed = subprocess.run([sys.executable, str(script)], env=environment, stderr=subprocess.PIPE, timeout=600)
    assert killed.returncode == -9  # and whoever held the other end of its standard error has left
    assert b"Traceback" not in killed.stderr
