"""tools/benchmarks/published_step.py: the yardstick computes what the production step computes."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from benchmarks import published_step
from benchmarks.published_step import PublishedMoCo, PublishedStep
from pretrain.engine.step import TrainingStep
from pretrain.runtime import distributed, spawn
from tests.support.pretrain.small_runs import (
    BATCH,
    LR,
    V1,
    V2,
    Case,
    generators,
    images,
    indices,
    initial_model,
    rank_slice,
)

STEPS = 6
CASES = {
    name: replace(case, queue_size=2 * BATCH)  # wraps twice
    for name, case in {"v1": V1, "v2": V2, "v1, BN in eval mode": replace(V1, evaluation=True)}.items()
}


def sgd(model: torch.nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), LR, 0.9, weight_decay=1e-4)


def production(case: Case) -> dict[str, Tensor]:
    model = initial_model(case)
    step = TrainingStep(model, sgd(model))
    losses, accuracies = [], []
    for at in range(STEPS):
        result = step(
            rank_slice(images(at, 0)), rank_slice(images(at, 1)), rank_slice(indices(at)), generators(case, at)
        )
        losses.append(result.loss)
        accuracies.append(result.accuracy)
    return {**state(model, losses, accuracies), "queue": model.queue.keys.T}


def published(case: Case) -> dict[str, Tensor]:
    begin = initial_model(case)
    encoder, queue = copy.deepcopy(begin.encoder_q), begin.queue.keys.T.contiguous()
    model = PublishedMoCo(encoder, queue, case.momentum, case.temperature)
    step = PublishedStep(model, sgd(model))
    seen = torch.tensor(
        [step(rank_slice(images(at, 0)), rank_slice(images(at, 1))) for at in range(STEPS)], dtype=torch.float64
    )
    return {**state(model, *seen.unbind(1)), "queue": model.queue}


def state(model: Any, losses: Any, accuracies: Any) -> dict[str, Tensor]:
    found = {"losses": torch.as_tensor(losses), "accuracies": torch.as_tensor(accuracies)}
    for name, tensor in model.state_dict().items():
        if name.startswith("encoder_"):
            found[name] = tensor
    return found


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(
            found[name],
            tensor,
            rtol=1e-10,
            atol=1e-10,
            check_dtype=False,
            msg=lambda text, name=name: f"{name}: {text}",
        )


@pytest.fixture
def one_process() -> Iterator[None]:
    """The group of one in which the published script runs on one GPU."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("name", CASES)
def test_on_one_process_it_computes_what_production_computes(name: str, one_process: None) -> None:
    """Every loss, weight, BN statistic and key: the order of shuffling does not matter to one process."""
    assert_same(published(CASES[name]), production(CASES[name]))


def test_the_comparison_would_notice_a_difference(one_process: None) -> None:
    case = CASES["v1"]
    for change in ({"momentum": 0.8}, {"temperature": 0.08}, {"evaluation": True}, {"queue_size": BATCH}):
        assert (published(replace(case, **change))["losses"] - production(case)["losses"]).abs().max() > 1e-4, change


def shuffled() -> dict[str, Any]:
    """What both do on the ranks, with BN in eval mode: then the order of shuffling, which differs, does not matter."""
    case = CASES["v1, BN in eval mode"]
    assert_same(published(case), production(case))
    torch.manual_seed(distributed.rank())  # each rank draws another order, of which one is everybody's
    everything = torch.arange(BATCH * 3).view(BATCH, 3)
    rows, back = published_step.shuffle(rank_slice(everything))
    assert torch.equal(published_step.unshuffle(rows, back), rank_slice(everything))
    moved = published_step.gather(rows)
    assert torch.equal(moved[back], everything)
    assert not torch.equal(moved, everything)
    return {"rank 1 is done": distributed.all_gather_object(True)}


def test_two_ranks_compute_what_production_computes() -> None:
    assert spawn.run_on_ranks(shuffled, 2)
