"""Plain `srun python tools/...`, without launch.py: who is told, and who ends."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster
from tests.support.rank_scripts import FOREVER, JOIN, write_script

LIMIT = 240  # seconds until a test gives up
ON_TWO = ("--nodes=2", "--ntasks=4", "--ntasks-per-node=2")


def srun(cluster: Cluster, *words: object) -> "subprocess.CompletedProcess[str]":
    """A step as a user starts it: SLURM ends no task because another has failed."""
    command = ["srun", "--kill-on-bad-exit=0", "--wait=0", *map(str, words)]
    environment = {**os.environ, **cluster.environment, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LIMIT)


@pytest.mark.parametrize("rank", [0, 3])
@pytest.mark.parametrize("joined", [False, True])
def test_a_mistake_of_one_task_is_told_and_ends_all(
    rank: int, joined: bool, shared_cluster: Cluster, tmp_path: Path
) -> None:
    mistake = f'if rank == {rank}: raise UserError("no such folder: /data")\n'
    script = write_script(tmp_path, (JOIN + mistake if joined else mistake + JOIN) + FOREVER)
    done = srun(shared_cluster, *ON_TWO, sys.executable, script)
    assert done.returncode == 2, done.stderr
    assert f"error on rank {rank} of host node{1 + rank // 2}: no such folder: /data\n" in done.stderr
    assert done.stderr.count("error on rank") == 1


def test_a_mistake_of_all_tasks_is_told_once(shared_cluster: Cluster, tmp_path: Path) -> None:
    script = write_script(tmp_path, 'raise UserError("no such folder: /data")')
    done = srun(shared_cluster, *ON_TWO, sys.executable, script)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("error: no such folder: /data\n") == 1


@pytest.mark.parametrize("rank", [0, 3])
def test_a_killed_task_ends_the_others(rank: int, shared_cluster: Cluster, tmp_path: Path) -> None:
    script = write_script(tmp_path, JOIN + f"if rank == {rank}: os.kill(os.getpid(), 9)\n" + FOREVER)
    done = srun(shared_cluster, *ON_TWO, sys.executable, script)
    assert done.returncode != 0
    assert re.search("without a message|left no message", done.stderr), done.stderr


def test_nodes_may_have_different_numbers_of_tasks(shared_cluster: Cluster, tmp_path: Path) -> None:
    seen = (
        "distributed.all_gather_object((distributed.rank(), distributed.local_rank(), distributed.local_world_size()))"
    )
    script = write_script(tmp_path, f"{JOIN}found = {seen}\nif rank == 0: print(found)\ndistributed.shutdown()")
    done = srun(shared_cluster, "--nodes=2", "--ntasks=3", sys.executable, script)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[(0, 0, 2), (1, 1, 2), (2, 0, 1)]\n"


def test_a_shell_of_two_tasks_is_told_how_to_start(shared_cluster: Cluster, tmp_path: Path) -> None:
    """`srun --pty bash` gives one task of the step a terminal; what it is told to type works there."""
    ready = write_script(
        tmp_path, JOIN + "if rank == 0: print('together', distributed.world_size())\ndistributed.shutdown()"
    )
    typed = "test -t 0 || exit 0; "  # the shell of the other task reads nothing, and ends
    typed += f"{sys.executable} {ready}; srun --overlap -n 2 {sys.executable} {ready}; "
    typed += f"srun --overlap -n 1 {sys.executable} {ready}; exit"
    shell = f"srun -n 2 --pty bash --norc -c '{typed}'"
    environment = {**os.environ, **shared_cluster.environment, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        ["script", "-qec", shell, "/dev/null"], env=environment, capture_output=True, text=True, timeout=LIMIT
    )
    said = " ".join(done.stdout.split())
    assert "waiting for 1 of 2 processes (rank 1) at node1:" in said, said
    assert "srun --overlap -n 2 COMMAND" in said
    assert "waited 60 s, and gave up" in said
    assert re.search("together 2 .*together 1", said), said
