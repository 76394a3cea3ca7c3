"""The SLURM of the tests itself: its nodes are machines of their own, and nothing of it outlives its starter."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.slurm.cluster import Cluster
from tests.slurm.sites import configuration
from tests.slurm.sites.daemons import MARK, end_leftovers


def submit(cluster: Cluster, folder: Path, command: str, *options: str) -> str:
    output = f"--output={folder}/%j.out"
    return cluster.run("sbatch", "--parsable", output, "--time=2", *options, f"--wrap=srun {command}").strip()


def processes_of(folder: Path) -> set[str]:
    """The commands of all processes that the SLURM in a folder started, also those of its jobs."""
    marks = (f"{MARK}={folder}".encode(), f"SLURM_CONF={folder}/etc/slurm.conf".encode())
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if any(mark in (entry / "environ").read_bytes().split(b"\0") for mark in marks):
                found.add((entry / "comm").read_text().strip())
        except OSError:  # ended
            continue
    return found


def by_hand(folder: Path) -> "subprocess.Popen[str]":
    """A SLURM as one starts it in a terminal; returns when it is there."""
    command = [sys.executable, "-m", "tests.slurm.cluster", str(folder)]
    starter = subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert starter.stdout is not None
    if starter.stdout.readline() != f"export SLURM_CONF={folder}/etc/slurm.conf\n":
        pytest.fail(f"no SLURM is there: {starter.communicate()[1]}")
    return starter


def test_a_job_has_both_nodes_by_their_names_with_their_gpus(cluster: Cluster, tmp_path: Path) -> None:
    command = "bash -c 'echo $(hostname) $(getent hosts node2 | head -c9) $SLURM_LOCALID $CUDA_VISIBLE_DEVICES'"
    job = submit(cluster, tmp_path, command, "--nodes=2", "--ntasks-per-node=2", "--gpus-per-node=2")
    cluster.wait(job, ["COMPLETED"])
    lines = sorted((tmp_path / f"{job}.out").read_text().splitlines())
    assert lines == [f"node{node} 127.0.0.1 {rank} 0,1" for node in (1, 2) for rank in (0, 1)]


def test_more_gpus_than_a_node_has_are_refused(cluster: Cluster, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="Requested node configuration is not available"):
        submit(cluster, tmp_path, "true", "--gpus-per-node=3")


def test_a_job_runs_again_after_its_node_died(cluster: Cluster, tmp_path: Path) -> None:
    command = "bash -c 'echo attempt ${SLURM_RESTART_COUNT:-0}; sleep 7$((1 - ${SLURM_RESTART_COUNT:-0}))1 || true'"
    job = submit(cluster, tmp_path, command, "--nodes=2", "--ntasks-per-node=1")
    output = tmp_path / f"{job}.out"
    wait_for(lambda: output.exists() and output.read_text().count("attempt 0") == 2)
    cluster.kill_node("node1")
    assert cluster.usable() == {"node2"}
    wait_for(lambda: not running("sleep 711"))
    cluster.revive_node("node1")
    wait_for(lambda: output.read_text().count("attempt 1") == 2)


def test_a_job_of_high_preempts_one_of_low0(cluster: Cluster, tmp_path: Path) -> None:
    low = submit(cluster, tmp_path, "sleep 60", "--nodes=2", "--exclusive", "--partition=low0")
    cluster.wait(low, ["RUNNING"])
    high = submit(cluster, tmp_path, "true", "--nodes=2", "--exclusive", "--partition=high")
    cluster.wait(high, ["COMPLETED"])
    assert cluster.states(low) == {low: "PENDING"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_the_starter(tmp_path: Path, cluster: Cluster, number: signal.Signals) -> None:
    starter = by_hand(tmp_path / "one")
    assert processes_of(tmp_path / "one") >= {"munged", "mariadbd", "slurmdbd", "slurmctld", "slurmd", "unshare"}
    starter.send_signal(number)
    starter.communicate(timeout=30)
    wait_for(lambda: not processes_of(tmp_path / "one"))
    assert cluster.usable() == {"node1", "node2"}  # the other SLURM on this machine is as it was


def test_a_folder_of_a_killed_start_is_used_again(tmp_path: Path, cluster: Cluster) -> None:
    folder = tmp_path / "again"
    first = by_hand(folder)
    (folder / "left").touch()
    with Cluster(folder) as second:  # the first is still there: as if it had left all its daemons
        assert not (folder / "left").exists()
        assert second.usable() == {"node1", "node2"}
    first.kill()
    first.communicate()
    assert end_leftovers(folder) == []


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path, cluster: Cluster) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(RuntimeError, match=r"has files that are none of a SLURM's"), Cluster(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_start_that_fails_is_one_error_with_the_log(
    tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = configuration.SLURM.replace("SlurmctldHost={host}", "SlurmctldHost=elsewhere")
    monkeypatch.setattr(configuration, "SLURM", text)
    with (
        pytest.raises(RuntimeError, match=r"(?s)slurmctld has ended.*not a valid controller"),
        Cluster(tmp_path / "broken"),
    ):
        pass
    wait_for(lambda: not processes_of(tmp_path / "broken"))


def running(command: str) -> bool:
    lines = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout.splitlines()
    return command in lines


def wait_for(true: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            pytest.fail(f"not so after {seconds} s")
        time.sleep(0.1)
