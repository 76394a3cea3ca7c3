"""Processes of one machine that a launcher has started: the first reads, the others have what it has read."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from transfer.data.shared import read_once as module

SCRIPT = """
import os, sys
from transfer.data.shared import read_once as module
from transfer.data.shared.packed_records import PackedRecords
module.PATIENCE = float(sys.argv[2])

def read():
    print("reads")
    if sys.argv[1] == "fails":
        raise ValueError("no such data")
    return PackedRecords.of([{"name": "a"}, {"name": "b"}])[1:]

for _ in range(2):
    try:
        records = module.read_once(read)
        print(list(records), os.fstat(records.memory.file).st_ino)
    except ValueError as error:
        print(error)
sys.stdout.flush()
sys.stdin.read()  # the first keeps the memory until all have ended
"""


def start(tmp_path: Path, rank: int, what: str = "works", patience: float = 60) -> subprocess.Popen[str]:
    world = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
    variables = {name: str(value) for name, value in world.items()}
    address = {"MASTER_ADDR": "localhost", "MASTER_PORT": "29617", "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, what, str(patience)],
        env={**os.environ, **variables, **address},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(*processes: subprocess.Popen[str]) -> list[list[str]]:
    """The lines that each has printed; the first is the last to end."""
    outputs: dict[int, str] = {}
    for number in reversed(range(len(processes))):
        output, errors = processes[number].communicate("", timeout=600)
        assert not errors or "read" in errors, errors
        outputs[number] = output
    return [outputs[number].splitlines() for number in range(len(processes))]


def test_the_first_process_reads_for_all(tmp_path: Path) -> None:
    first, second = ended(start(tmp_path, 0), start(tmp_path, 1))
    assert [line for line in first if line == "reads"] == ["reads"] * 2
    assert "reads" not in second
    assert second == [line for line in first if line != "reads"]  # the same memory
    assert second[0].startswith("[{'name': 'b'}] ")
    assert not list(tmp_path.glob("*/*"))


def test_a_fault_of_the_data_is_met_by_all(tmp_path: Path) -> None:
    first, second = ended(start(tmp_path, 0, "fails"), start(tmp_path, 1, "fails"))
    assert first == second == ["reads", "no such data"] * 2


def test_without_a_first_process_each_reads_itself(tmp_path: Path) -> None:
    (second,) = ended(start(tmp_path, 1, patience=0.2))
    assert second.count("reads") == 2


def test_what_an_earlier_run_has_left_is_waited_over(tmp_path: Path) -> None:
    path = tmp_path / "announcement"
    left: dict[str, Any] = {"pid": os.getpid(), "begun": "1", "state": "read", "file": 3}
    path.write_text(json.dumps(left))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PATIENCE", 0.3)
        begun = time.monotonic()
        assert module._wait_for(path) is None
        assert time.monotonic() - begun > 0.2
    path.write_text(json.dumps({**left, "begun": module._begun(os.getpid())}))
    assert module._wait_for(path) == (os.getpid(), 3)


def test_a_process_alone_reads_itself() -> None:
    assert module.read_once(lambda: [1]) == [1]
