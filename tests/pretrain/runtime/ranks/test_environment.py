"""The worlds that torchrun's and SLURM's variables name."""

import pytest

from pretrain.runtime.ranks import environment
from pretrain.runtime.ranks.environment import LaunchFault

STEP = {
    "SLURM_STEP_NODELIST": "gpu[07-09,12],login1",
    "SLURM_STEP_NUM_TASKS": "14",
    "SLURM_STEP_TASKS_PER_NODE": "3(x4),2",
    "SLURM_JOB_ID": "4711",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "2",
    "SLURM_NODEID": "1",
}
TORCHRUN = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "29500"}


@pytest.mark.parametrize(
    ("listed", "first"),
    [  # as `scontrol show hostnames` says
        ("gpu[01-04]", "gpu01"),
        ("gpu01", "gpu01"),
        ("nodeA,nodeB[001,003]", "nodeA"),
        ("c301-[101-104]", "c301-101"),
        ("node[1,3]-ib", "node1-ib"),
        ("cpn-m[11-12]-16", "cpn-m11-16"),
        ("i01r[01-02]c[01-06]s[01-12]", "i01r01c01s01"),
        ("rack[0-3]_blade[0-41],login[1-2]", "rack0_blade0"),
        ("n[9,10-12].example.org,x", "n9.example.org"),
        ("[1-3]", "1"),
    ],
)
def test_the_first_host_is_that_of_scontrol(listed: str, first: str) -> None:
    assert environment.first_host(listed) == first


@pytest.mark.parametrize("listed", ["", ",", "n[", "n[a-b]"])
def test_a_list_without_a_host_is_refused(listed: str) -> None:
    with pytest.raises(LaunchFault, match="names no host"):
        environment.first_host(listed)


def test_each_node_has_its_own_number_of_tasks() -> None:
    assert environment.tasks_per_node("3(x2),2") == [3, 3, 2]
    assert environment.slurm_environment({**STEP, "SLURM_NODEID": "4"})["LOCAL_WORLD_SIZE"] == "2"


@pytest.mark.parametrize("ephemeral", ["32768 60999", "10000 65535", "1024 60999", "1024 65535", "49152 65535"])
def test_ports_are_none_of_outgoing_connections(ephemeral: str) -> None:
    ports = {environment.port_for(job, ephemeral) for job in range(100000)}
    assert len(ports) > 1000
    assert min(ports) >= 1024
    assert max(ports) < 65536
    lowest, highest = map(int, ephemeral.split())
    if (lowest, highest) != (1024, 65535):  # where all are
        assert not [port for port in ports if lowest <= port <= highest]


def test_two_jobs_have_different_ports() -> None:
    ports = {environment.slurm_environment({**STEP, "SLURM_JOB_ID": str(job)})["MASTER_PORT"] for job in range(100)}
    assert len(ports) == 100


@pytest.mark.parametrize("variables", [{}, {"WORLD_SIZE": "1", "RANK": "0"}, {"SLURM_STEP_NUM_TASKS": "1"}])
def test_one_process_is_no_world(variables: dict[str, str]) -> None:
    assert environment.read_world(variables) is None


def test_the_worlds_of_torchrun_and_srun() -> None:
    world = environment.read_world({**TORCHRUN, "SLURM_STEP_NUM_TASKS": "3", "TORCHELASTIC_RUN_ID": "x"})
    assert world is not None
    assert (world.rank, world.size, world.host, world.port, world.name) == (1, 2, "a", 29500, "x/0")
    world = environment.read_world({**STEP, "SLURM_PTY_PORT": "40000", "SLURM_PROCID": "0"})
    assert world is not None
    assert (world.rank, world.size, world.local_size, world.host, world.name) == (0, 14, 3, "gpu07", "4711.0")
    assert world.hosted
    assert world.interactive


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({**TORCHRUN, "RANK": "2"}, "RANK 2: with WORLD_SIZE 2 it is to be from 0 to 1"),
        ({**TORCHRUN, "RANK": "a"}, "RANK 'a': is to be a whole number"),
        ({**TORCHRUN, "MASTER_PORT": "0"}, "MASTER_PORT 0: is to be from 1 to 65535"),
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE 2 without MASTER_ADDR, MASTER_PORT, RANK: torchrun and srun set them"),
        ({"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1"}, "srun's variables are incomplete, SLURM_STEP_NODELIST"),
    ],
)
def test_contradicting_variables_are_refused(variables: dict[str, str], message: str) -> None:
    with pytest.raises(LaunchFault, match=message):
        environment.read_world(variables)
