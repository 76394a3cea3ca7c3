"""The command of `make test-gpu`: checks that fail, hang or die stop no other, and all of it runs on a CPU."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import ROOT
from tests.gpu import log
from tests.gpu.plan import CHECKS, SECONDS, Check
from tests.gpu.run import LOG, PRINTED, run_checks

MADE = {  # modules of checks, by name
    "holds": "case.do('one', lambda: {'said': 'seen', 'number': 1, 'result': {}})\n    print('printed')",
    "fails": "case.do('bad', lambda: 1 / 0)\n    case.do('good', dict)",
    "leaves": "case.do('none', leave)",
    "raises": "case.do('good', dict)\n    raise KeyError('x')",
    "dies": "case.do('good', dict)\n    import os\n    os._exit(7)",
    "hangs": "case.do('good', dict)\n    import subprocess, time\n"
    "    (case.log.parent / 'child').write_text(str(subprocess.Popen(['sleep', '600']).pid))\n    time.sleep(600)",
    "last": "case.do('after all', dict)",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the modules of MADE, on the path."""
    folder = tmp_path_factory.mktemp("made")
    for name, body in MADE.items():
        text = "from tests.gpu.case import LeftOut\n\ndef leave():\n    raise LeftOut('no reason')\n\n"
        (folder / f"made_{name}.py").write_text(f"{text}\ndef check(case):\n    {body}\n")
    return folder


@pytest.fixture(scope="module")
def ran(made: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, Any]], str, bool]:
    """The log's folder, its lines of checks, what was printed, and the answer, of a run of all of MADE."""
    output = tmp_path_factory.mktemp("output")
    command = [
        sys.executable,
        "-c",
        "import sys; from pathlib import Path; from tests.gpu.run import run_checks; "
        "from tests.gpu.plan import Check; "
        "names = sys.argv[2:]; found = [Check(n, 6 if n == 'hangs' else 60, f'made_{n}', '') for n in names]; "
        "sys.exit(not run_checks(found, 'cpu', Path(sys.argv[1]), sum(c.seconds for c in found)))",
        str(output),
        *MADE,
    ]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{made}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    found = {one["check"]: one for one in log.lines(output / LOG) if "part" not in one}
    return output, found, done.stdout, done.returncode == 0


def test_a_check_that_fails_hangs_or_dies_stops_no_other(ran: Any) -> None:
    _, found, _, good = ran
    assert not good
    assert list(found) == list(MADE)
    results = {name: line["result"] for name, line in found.items()}
    bad = ("fails", "raises", "dies", "hangs")
    assert results == {**dict.fromkeys(MADE, "pass"), **dict.fromkeys(bad, "fail"), "leaves": "left out"}


def test_the_line_of_a_check_says_why(ran: Any) -> None:
    _, found, printed, _ = ran
    assert found["holds"]["said"] == "seen"
    assert found["fails"]["said"] == "1 pass, 1 fail; bad: ZeroDivisionError: division by zero"
    assert found["leaves"]["said"] == "no reason"
    assert "outside its parts: KeyError: 'x'" in found["raises"]["said"]
    assert "its process ended with code 7" in found["dies"]["said"]
    assert re.search(r"it was ended when its \d s were up", found["hangs"]["said"])
    for line in found.values():
        assert re.search(rf"{line['result']} +{line['check']} .*{re.escape(line['said'])}", printed)
    assert "7 checks: 2 pass, 4 fail, 1 left out" in printed


def test_the_log_has_the_parts_of_a_check_that_was_cut(ran: Any) -> None:
    output, *_ = ran
    parts = [(one["check"], one["part"], one["result"]) for one in log.lines(output / LOG) if "part" in one]
    assert ("hangs", "good", "pass") in parts
    assert ("dies", "good", "pass") in parts
    (held,) = [one for one in log.lines(output / LOG) if one.get("part") == "one"]
    assert held["number"] == 1
    text = (output / PRINTED).read_text()
    assert "=== holds\nprinted" in text
    assert "ZeroDivisionError" in text


def test_nothing_of_a_check_that_hangs_is_left_running(ran: Any) -> None:
    output, *_ = ran
    state = Path("/proc", (output / "child").read_text(), "stat")
    end = time.monotonic() + 30
    while state.exists() and state.read_text().split()[2] != "Z" and time.monotonic() < end:
        time.sleep(0.1)
    assert not state.exists() or state.read_text().split()[2] == "Z"


def test_checks_for_which_no_time_is_left_say_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_checks([Check("late", 10, "none", "")], "cpu", tmp_path, 1.0)
    assert log.lines(tmp_path / LOG)[0]["said"] == "no time was left"
    assert "left out  late" in capsys.readouterr().out


def test_a_line_that_was_cut_off_hides_no_other(tmp_path: Path) -> None:
    log.write_line(tmp_path / LOG, {"check": "a"})
    with (tmp_path / LOG).open("a") as file:
        file.write('{"check": "b", "re')
    assert log.lines(tmp_path / LOG) == [{"check": "a"}]


def command(*words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    env = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(
        [sys.executable, "-m", "tests.gpu", *words], cwd=ROOT, env=env, capture_output=True, text=True
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_without_a_gpu_it_names_the_form_for_a_cpu(tmp_path: Path) -> None:
    done = command("--output", str(tmp_path))
    assert done.returncode == 2
    assert "DEVICE=cpu" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_log_of_before_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "test_gpu").mkdir()
    (tmp_path / "test_gpu" / LOG).write_text("{}\n")
    done = command("--device", "cpu", OUT=str(tmp_path))
    assert done.returncode == 2
    assert f"{tmp_path / 'test_gpu' / LOG} is there already" in done.stderr
    assert (tmp_path / "test_gpu" / LOG).read_text() == "{}\n"


def test_all_budgets_together_are_nine_minutes() -> None:
    assert sum(check.seconds for check in CHECKS) == SECONDS <= 540


def test_the_page_lists_every_check_in_its_order() -> None:
    page = (ROOT / "docs" / "measurements" / "gpu.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \|", page, re.MULTILINE)
    assert rows == [(check.name, str(check.seconds)) for check in CHECKS]


@pytest.mark.slow
@pytest.mark.timeout(10800)
def test_every_check_runs_at_tiny_size_on_a_cpu(tmp_path: Path) -> None:
    done = command("--device", "cpu", "--output", str(tmp_path))
    found = {one["check"]: one for one in log.lines(tmp_path / LOG) if "part" not in one}
    assert done.returncode == 0, done.stdout
    assert list(found) == [check.name for check in CHECKS]
    left_out = {name for name, line in found.items() if line["result"] == "left out"}
    assert left_out == ({"marked", "waits"} if not torch.cuda.is_available() else {"waits"})
