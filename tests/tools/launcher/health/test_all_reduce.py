"""tools/launcher/health/: an all-reduce of real gloo processes names the rank that has stopped, and its node."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.health import all_reduce
from tests.conftest import ROOT
from tests.slurm.sites.daemons import free_ports
from tests.support.waiting import PATIENCE

MEMBER = """
import os, signal, sys
from launcher.health import member
stopped = sys.argv.pop(1)
if os.environ["RANK"] == stopped:
    def stop(self, *words):
        os.kill(os.getpid(), signal.SIGSTOP)
    member._Member.exchange = stop
member.main()
"""
STEP = 3  # seconds that an exchange may take


def start(rank: int, port: int, stopped: int) -> "subprocess.Popen[str]":
    """One of four ranks on two nodes."""
    command = [sys.executable, "-c", MEMBER, str(stopped), f"node{rank // 2}", "node0,node1", "cpu", "600", str(STEP)]
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "4", "RANK": str(rank)}
    paths = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tools'}", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, env={**os.environ, **paths, **where}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


@pytest.mark.slow
@pytest.mark.parametrize("stopped", [3, -1])
def test_a_stopped_rank_is_named_with_its_node(stopped: int) -> None:
    (port,) = free_ports(1)
    ranks = [start(rank, port, stopped) for rank in range(4)]
    try:
        others = [process for rank, process in enumerate(ranks) if rank != stopped]
        said = [process.communicate(timeout=PATIENCE)[0] for process in others]
    finally:
        for process in ranks:
            process.kill()
            process.communicate()
    if stopped == -1:
        assert all('"fault": ""' in text and '"device": "cpu"' in text for text in said), said
    else:
        assert all("rank 3 on node1 does not answer" in text and '"hosts": ["node1"]' in text for text in said), said


def test_one_that_does_not_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "launcher/health").mkdir(parents=True)
    (tmp_path / "launcher/health/member.py").write_text("import time; time.sleep(1000)")
    monkeypatch.setattr(all_reduce, "_LEAVE_SECONDS", 0)
    ranks = {**os.environ, "PYTHONPATH": str(tmp_path), "RANK": "5"}
    found = all_reduce.reduce_together(ranks, "node2", ["node1", "node2"], start=1, step=0)
    assert found == all_reduce.Reduced("the all-reduce of rank 5 did not end within 1 s", ("node2",))


def test_one_that_dies_says_what_it_said_last(tmp_path: Path) -> None:
    (tmp_path / "launcher/health").mkdir(parents=True)
    (tmp_path / "launcher/health/member.py").write_text("raise SystemExit('libnccl.so.2: cannot open')")
    ranks = {**os.environ, "PYTHONPATH": str(tmp_path), "RANK": "0"}
    found = all_reduce.reduce_together(ranks, "node1", ["node1"])
    assert found.fault == "the all-reduce of rank 0 failed: libnccl.so.2: cannot open"
