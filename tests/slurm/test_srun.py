"""Plain `srun python tools/...`, without launch.py: who is told, and who ends. The steps run side by side."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster
from tests.slurm.runs import BESIDE_OTHERS
from tests.slurm.together import Together
from tests.support.rank_scripts import FOREVER, JOIN, write_script

ON_TWO = ("--nodes=2", "--ntasks-per-node=1")
RANKS = (0, 1)


@pytest.fixture(scope="module")
def side_by_side(shared_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Together]:
    scenarios = {
        "shell": start_in_a_shell,  # the longest first
        **{f"mistake_of_{rank}": partial(make_a_mistake, rank, False) for rank in RANKS},
        **{f"mistake_of_{rank}_joined": partial(make_a_mistake, rank, True) for rank in RANKS},
        **{f"killed_{rank}": partial(kill_a_task, rank) for rank in RANKS},
        "mistake_of_all": make_a_mistake_in_all,
    }
    folders = {name: tmp_path_factory.mktemp(name) for name in scenarios}
    with Together(**{name: partial(scenarios[name], shared_cluster, folders[name]) for name in scenarios}) as together:
        yield together


def srun(cluster: Cluster, *words: object) -> "subprocess.CompletedProcess[str]":
    """A step as a user starts it: SLURM ends no task because another has failed."""
    command = ["srun", "--kill-on-bad-exit=0", "--wait=0", *map(str, words)]
    environment = {**os.environ, **cluster.environment, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=BESIDE_OTHERS)


def make_a_mistake(rank: int, joined: bool, cluster: Cluster, folder: Path) -> None:
    mistake = f'if rank == {rank}: raise UserError("no such folder: /data")\n'
    script = write_script(folder, (JOIN + mistake if joined else mistake + JOIN) + FOREVER)
    done = srun(cluster, *ON_TWO, sys.executable, script)
    assert done.returncode == 2, done.stderr
    assert f"error on rank {rank} of host node{1 + rank}: no such folder: /data\n" in done.stderr
    assert done.stderr.count("error on rank") == 1


def make_a_mistake_in_all(cluster: Cluster, folder: Path) -> None:
    script = write_script(folder, 'raise UserError("no such folder: /data")')
    done = srun(cluster, *ON_TWO, sys.executable, script)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("error: no such folder: /data\n") == 1


def kill_a_task(rank: int, cluster: Cluster, folder: Path) -> None:
    script = write_script(folder, JOIN + f"if rank == {rank}: os.kill(os.getpid(), 9)\n" + FOREVER)
    done = srun(cluster, *ON_TWO, sys.executable, script)
    assert done.returncode != 0
    assert re.search("without a message|left no message", done.stderr), done.stderr


def start_in_a_shell(cluster: Cluster, folder: Path) -> None:
    """`srun --pty bash` gives one task of the step a terminal; what it is told to type works there."""
    less = "if sys.argv[1:]: meeting.LIMIT_INTERACTIVE = float(sys.argv[1])\n"
    together = "if rank == 0: print('together', distributed.world_size())\ndistributed.shutdown()"
    ready = write_script(folder, "from pretrain.runtime.ranks import meeting\n" + less + JOIN + together)
    typed = "test -t 0 || exit 0; "  # the shell of the other task reads nothing, and ends
    typed += f"{sys.executable} {ready} 10; srun --overlap -n 2 {sys.executable} {ready}; "
    typed += f"srun --overlap -n 1 {sys.executable} {ready}; exit"
    shell = f"srun -n 2 --nodelist=node1 --nodes=1 --pty bash --norc -c '{typed}'"
    environment = {**os.environ, **cluster.environment, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        ["script", "-qec", shell, "/dev/null"], env=environment, capture_output=True, text=True, timeout=BESIDE_OTHERS
    )
    said = " ".join(done.stdout.split())
    assert "waiting for 1 of 2 processes (rank 1) at node1:" in said, said
    assert "srun --overlap -n 2 COMMAND" in said
    assert "waited 10 s, and gave up" in said
    assert re.search("together 2 .*together 1", said), said


@pytest.mark.parametrize("rank", RANKS)
@pytest.mark.parametrize("joined", ["", "_joined"])
def test_a_mistake_of_one_task_is_told_and_ends_all(rank: int, joined: str, side_by_side: Together) -> None:
    side_by_side.passed(f"mistake_of_{rank}{joined}")


def test_a_mistake_of_all_tasks_is_told_once(side_by_side: Together) -> None:
    side_by_side.passed("mistake_of_all")


@pytest.mark.parametrize("rank", RANKS)
def test_a_killed_task_ends_the_others(rank: int, side_by_side: Together) -> None:
    side_by_side.passed(f"killed_{rank}")


def test_nodes_may_have_different_numbers_of_tasks(
    shared_cluster: Cluster, tmp_path: Path, side_by_side: Together
) -> None:
    side_by_side.wait()  # else SLURM may have other cores to give
    seen = (
        "distributed.all_gather_object((distributed.rank(), distributed.local_rank(), distributed.local_world_size()))"
    )
    script = write_script(tmp_path, f"{JOIN}found = {seen}\nif rank == 0: print(found)\ndistributed.shutdown()")
    done = srun(shared_cluster, "--nodes=2", "--ntasks=3", sys.executable, script)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[(0, 0, 2), (1, 1, 2), (2, 0, 1)]\n"


def test_a_shell_of_two_tasks_is_told_how_to_start(side_by_side: Together) -> None:
    side_by_side.passed("shell")
