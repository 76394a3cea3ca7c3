"""Processes that talk: launch, gather, failures; the environments of torchrun and SLURM."""

import os
import pathlib
import subprocess
import sys

import pytest
import torch

from pretrain import distributed
from pretrain.errors import PretrainError

ROOT = pathlib.Path(__file__).resolve().parents[2]


def report(offset: int) -> tuple[int, int, int, bool, list[int], list[list[int]], str]:
    rank = distributed.rank()
    rows = torch.tensor([[rank, offset]])
    return (
        rank,
        distributed.world_size(),
        distributed.local_rank(),
        distributed.is_main(),
        distributed.all_gather_object(rank * 10 + offset),
        distributed.all_gather(rows).tolist(),
        distributed.on_main(lambda: f"from {distributed.rank()}"),
    )


def test_one_process_is_an_ordinary_case() -> None:
    assert distributed.launch(report, 1, 7) == (0, 1, 0, True, [7], [[0, 7]], "from 0")


def test_three_processes_gather_in_rank_order() -> None:
    expected = (0, 3, 0, True, [5, 15, 25], [[0, 5], [1, 5], [2, 5]], "from 0")
    assert distributed.launch(report, 3, 5) == expected


def fail_on_rank_one() -> None:
    if distributed.rank() == 1:
        raise PretrainError("rank 1: no such folder: /somewhere")
    distributed.barrier()


def fail_on_main() -> None:
    def work() -> None:
        raise PretrainError("only rank 0 looked")

    try:
        distributed.on_main(work)
    except PretrainError as error:
        messages = distributed.all_gather_object(str(error))
        raise PretrainError(" and ".join(messages)) from None


def test_a_failure_of_one_rank_is_raised_as_itself() -> None:
    with pytest.raises(PretrainError, match="rank 1: no such folder: /somewhere"):
        distributed.launch(fail_on_rank_one, 2)


def test_what_rank_zero_raises_reaches_every_rank() -> None:
    with pytest.raises(PretrainError, match="only rank 0 looked and only rank 0 looked"):
        distributed.launch(fail_on_main, 2)


def die() -> None:
    if distributed.rank() == 1:
        os._exit(7)
    distributed.barrier()


def test_a_process_that_dies_without_a_word_is_noticed() -> None:
    with pytest.raises(Exception, match=r"exit code 7|Connection closed|closed by peer|reset by peer"):
        distributed.launch(die, 2)


def test_the_main_rank_alone_raises_the_error_itself() -> None:
    with pytest.raises(ZeroDivisionError):
        distributed.on_main(lambda: 1 // 0)


def test_mean_and_broadcast() -> None:
    assert distributed.launch(mean_and_broadcast, 2) == ([2.0, 4.0], [10, 10])


def mean_and_broadcast() -> tuple[list[float], list[int]]:
    rank = distributed.rank()
    own = torch.tensor([1.0 + 2 * rank, 4.0])
    buffer = torch.tensor(10 + rank)
    distributed.broadcast([buffer])
    return distributed.mean(own).tolist(), distributed.all_gather_object(int(buffer))


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "CPU", ""])
def test_an_unknown_device_is_named(name: str) -> None:
    with pytest.raises(PretrainError, match=f"'{name}' is none of auto, cpu, cuda"):
        distributed.select_device(name)


def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(PretrainError, match="asks for GPU 99"):
        distributed.select_device("cuda:99")


def test_a_slurm_step_names_the_world() -> None:
    slurm = {
        "SLURM_STEP_NODELIST": "gpu[07-09,12],login1",
        "SLURM_STEP_NUM_TASKS": "12",
        "SLURM_STEP_TASKS_PER_NODE": "3(x4)",
        "SLURM_JOB_ID": "4711",
        "SLURM_PROCID": "5",
        "SLURM_LOCALID": "2",
    }
    found = distributed._slurm_environment(slurm)
    port = found.pop("MASTER_PORT")
    assert 20000 <= int(port) < 40000
    assert port != distributed._slurm_environment({**slurm, "SLURM_JOB_ID": "4712"})["MASTER_PORT"]
    assert found == {
        "MASTER_ADDR": "gpu07",
        "RANK": "5",
        "WORLD_SIZE": "12",
        "LOCAL_RANK": "2",
        "LOCAL_WORLD_SIZE": "3",
    }


def test_torchrun_and_slurm_make_a_world(tmp_path: pathlib.Path) -> None:
    script = tmp_path / "who.py"
    script.write_text(
        "from pretrain import distributed as d\nd.init('cpu')\nprint(d.all_gather_object((d.rank(), d.local_rank())))\n"
        "d.shutdown()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    done = subprocess.run(torchrun, env=environment, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.splitlines() == ["[(0, 0), (1, 1)]"] * 2
    job = {"SLURM_STEP_NODELIST": "localhost", "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_TASKS_PER_NODE": "2"}
    job |= {"SLURM_JOB_ID": str(os.getpid())}
    tasks = [
        subprocess.Popen(
            [sys.executable, str(script)],
            env={**environment, **job, "SLURM_PROCID": str(i), "SLURM_LOCALID": str(i)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    assert [task.communicate(timeout=120)[0].strip() for task in tasks] == ["[(0, 0), (1, 1)]"] * 2
