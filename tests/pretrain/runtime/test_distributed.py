"""Processes that talk: launch, gather, failures; the environments of torchrun and SLURM."""

import os
import pathlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch

from pretrain.runtime import distributed, spawn
from pretrain.runtime.errors import UserError

ROOT = pathlib.Path(__file__).resolve().parents[3]


def report(offset: int) -> dict[str, Any]:
    rank = distributed.rank()
    buffer = torch.tensor(10 + rank)
    distributed.broadcast([buffer])
    return {
        "identity": (rank, distributed.world_size(), distributed.local_rank(), distributed.is_main()),
        "objects": distributed.all_gather_object(rank * 10 + offset),
        "rows": distributed.all_gather(torch.tensor([[rank, offset]])).tolist(),
        "mean": distributed.mean(torch.tensor([1.0 + 2 * rank, 4.0])).tolist(),
        "broadcast": distributed.all_gather_object(int(buffer)),
        "on main": distributed.all_gather_object(distributed.on_main(lambda: f"from {distributed.rank()}")),
        "main fails": distributed.all_gather_object(what_raises(lambda: distributed.on_main(lambda: [][0]))),
        "rank 1 fails": distributed.all_gather_object(what_raises(agree_on_rank_one)),
        "any": distributed.all_gather_object(distributed.agree(None, rank == 0, False)),
        "norms": distributed.all_gather_object(norm_after_sharing(rank)),
    }


def norm_after_sharing(rank: int) -> list[float]:
    """The mean, the variance, the count of batches and the scale of a BN layer that were all of the rank's own."""
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 1, 1), torch.nn.BatchNorm2d(1))
    norm = model[1]
    norm.running_mean.fill_(rank)
    norm.running_var.fill_(10 + rank)
    norm.num_batches_tracked.fill_(20 + rank)
    norm.weight.data.fill_(30 + rank)
    distributed.share_batchnorm_statistics(model)
    found = (norm.running_mean, norm.running_var, norm.num_batches_tracked, norm.weight)
    return [value.item() for value in found]


def what_raises(function: Callable[[], Any]) -> str:
    try:
        function()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def agree_on_rank_one() -> None:
    distributed.agree(None)
    distributed.agree(UserError("no such file") if distributed.rank() == distributed.world_size() - 1 else None)


@pytest.mark.usefixtures("spawned_ranks")
@pytest.mark.parametrize("world", [1, 2])
def test_processes_know_themselves_and_exchange_in_rank_order(world: int) -> None:
    ranks = range(world)
    assert spawn.run_on_ranks(report, world, 5) == {
        "identity": (0, world, 0, True),
        "objects": [5 + 10 * rank for rank in ranks],
        "rows": [[rank, 5] for rank in ranks],
        "mean": [float(world), 4.0],
        "broadcast": [10] * world,
        "on main": ["from 0"] * world,
        "main fails": ["IndexError: list index out of range"] * world,
        "rank 1 fails": ["UserError: no such file"] * world,
        "any": [[True, False]] * world,
        "norms": [[0, 10, 20, 30 + rank] for rank in ranks],  # statistics are rank 0's, parameters their own
    }


def fail_on_rank_one() -> None:
    if distributed.rank() == 1:
        raise UserError("rank 1: no such folder: /somewhere")
    distributed.barrier()


def test_a_failure_of_one_rank_is_raised_as_itself() -> None:
    with pytest.raises(UserError, match="rank 1: no such folder: /somewhere"):
        spawn.run_on_ranks(fail_on_rank_one, 2)


class LastIsFirst(torch.nn.Module):
    """What it registers first it uses last, so gradients do not come in the order of registration."""

    def __init__(self) -> None:
        super().__init__()
        self.last, self.first, self.second = (torch.nn.Linear(a, b) for a, b in ((500, 3), (7, 300), (300, 500)))

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return self.last(torch.tanh(self.second(torch.tanh(self.first(batch)))))  # (N, 7) -> (N, 3)


def steps_in_two_starts(stop: int) -> dict[str, torch.Tensor]:
    """Four steps of SGD on each rank's own data, with another DDP around the same weights after `stop` of them."""
    torch.manual_seed(0)
    model = LastIsFirst()
    data = torch.randn(4, 8, 7, generator=torch.Generator().manual_seed(distributed.rank()))
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    parallel = distributed.data_parallel(model)
    for step, batch in enumerate(data):
        if step == stop:
            parallel = distributed.data_parallel(model)
        optimizer.zero_grad()
        parallel(batch).pow(2).sum().backward()
        optimizer.step()
    return model.state_dict()


@pytest.mark.slow
def test_gradients_of_three_ranks_ignore_when_a_run_started() -> None:
    whole, parts = (spawn.run_on_ranks(steps_in_two_starts, 3, stop) for stop in (0, 2))
    for name, tensor in whole.items():
        assert torch.equal(tensor, parts[name]), name


def gradients_in_buckets(steps: int) -> list[int]:
    """After each of a few steps, the number of stretches of memory that all gradients lie in."""
    model = LastIsFirst()
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    parallel, found = distributed.data_parallel(model), []
    for _ in range(steps):
        optimizer.zero_grad()
        parallel(torch.ones(8, 7)).sum().backward()
        optimizer.step()
        found.append(len({p.grad.untyped_storage().data_ptr() for p in model.parameters() if p.grad is not None}))
    return found


def test_gradients_lie_in_the_bucket_that_ranks_exchange() -> None:
    """So that none is copied into it and back: the model's 6 parameters fit into one bucket."""
    assert spawn.run_on_ranks(gradients_in_buckets, 2, 3) == [1, 1, 1]


def talking_threads() -> list[str]:
    names = [file.read_text().strip() for file in pathlib.Path("/proc/self/task").glob("*/comm")]
    return [name for name in names if "gloo" in name]


def leave_a_model_behind() -> tuple[list[str], list[str]]:
    cycle: list[Any] = [distributed.data_parallel(torch.nn.Linear(3, 2))]
    cycle.append(cycle)
    del cycle
    before = talking_threads()
    distributed.shutdown()
    return before, talking_threads()


def test_no_thread_talks_after_the_shutdown() -> None:
    """One that still frees a tensor while the interpreter ends aborts the process."""
    before, after = spawn.run_on_ranks(leave_a_model_behind, 2)
    assert before
    assert after == []


class TwoArgumentsError(UserError):
    """An error that pickle cannot make again: it gives its class one argument."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} {second}")


def meet_what_cannot_travel() -> list[str]:
    alone = TwoArgumentsError("no", "file") if distributed.rank() == 1 else None
    return [
        what_raises(lambda: distributed.agree(alone)),
        what_raises(lambda: distributed.on_main(lambda: TwoArgumentsError("no", "file").unknown)),
    ]


def test_an_error_that_cannot_travel_is_agreed_on_as_text() -> None:
    agreed, _ = spawn.run_on_ranks(meet_what_cannot_travel, 2)
    assert agreed == "RuntimeError: TwoArgumentsError: no file"


def fail_differently() -> None:
    raise UserError(f"no such folder: /data{distributed.rank()}")


def test_the_errors_of_all_ranks_are_in_the_cause() -> None:
    with pytest.raises(UserError, match="no such folder: /data") as caught:
        spawn.run_on_ranks(fail_differently, 2)
    assert [line.split(" of host ")[0] for line in sorted(str(caught.value.__cause__).splitlines())] == [
        "error on rank 0",
        "error on rank 1",
    ]


def die() -> None:
    if distributed.rank() == 1:
        os._exit(7)
    distributed.barrier()


def test_a_process_that_dies_without_a_word_is_noticed() -> None:
    with pytest.raises(Exception, match=r"exit code 7|Connection closed|closed by peer|reset by peer"):
        spawn.run_on_ranks(die, 2)


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "CPU", ""])
def test_an_unknown_device_is_named(name: str) -> None:
    with pytest.raises(UserError, match=f"'{name}' is none of auto, cpu, cuda"):
        distributed.select_device(name)


@pytest.mark.parametrize("name", ["mps", "mps:0"])
def test_the_gpu_of_a_mac_is_refused_by_its_name(name: str) -> None:
    with pytest.raises(UserError, match=f"'{name}' is none of .*MPS, .* is not supported"):
        distributed.select_device(name)


def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(UserError, match="asks for GPU 99"):
        distributed.select_device("cuda:99")


@pytest.mark.parametrize(("visible", "local", "index"), [(8, 3, 3), (1, 3, 0), (4, 0, 0)])
def test_a_process_takes_its_own_gpu(visible: int, local: int, index: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all GPUs of the machine that of its local rank; the only one where the launcher shows it no other."""
    monkeypatch.setenv("LOCAL_RANK", str(local))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    for name in ("cuda", "auto"):
        assert distributed.select_device(name, visible) == torch.device("cuda", index)


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "3")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    with pytest.raises(UserError, match="GPU 3 on local rank 3, but PyTorch sees 2 GPUs here; start at most 2 proc"):
        distributed.select_device("cuda", 2)


def test_one_gpu_for_several_processes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    with pytest.raises(UserError, match="'cuda:0' would put all 4 processes of this machine on one GPU; 'cuda' gives"):
        distributed.select_device("cuda:0", 4)


def test_torchrun_makes_a_world(tmp_path: pathlib.Path) -> None:
    script = tmp_path / "who.py"
    script.write_text(  # a file a rank: what two processes print at once may run into each other
        "import pathlib\nfrom pretrain.runtime import distributed as d\nd.init('cpu')\n"
        "world = d.all_gather_object((d.rank(), d.local_rank()))\n"
        "pathlib.Path(__file__).with_name(f'rank{d.rank()}').write_text(str(world))\nd.shutdown()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    subprocess.run(torchrun, env=environment, capture_output=True, text=True, timeout=600, check=True)
    assert [(tmp_path / f"rank{rank}").read_text() for rank in (0, 1)] == ["[(0, 0), (1, 1)]"] * 2
