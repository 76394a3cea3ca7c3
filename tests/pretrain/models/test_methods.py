"""The end-to-end method and the memory bank (figure 2 of the paper) against the plain reference."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pretrain.engine.step import TrainingStep
from pretrain.models.end_to_end import EndToEnd, all_gather
from pretrain.models.memory_bank import MemoryBank
from pretrain.models.published_state import load_published_state, published_state
from pretrain.runtime import distributed, spawn
from tests.support.pretrain.small_runs import (
    DIM,
    IMAGES,
    LR,
    V1,
    V2,
    Case,
    assert_same,
    generators,
    images,
    indices,
    initial_model,
    rank_slice,
    run_production,
    run_production_cases,
    run_reference,
    small_encoder,
)

WORLD = 4
END_TO_END, BANK = replace(V1, method="end_to_end"), replace(V1, method="memory_bank", momentum=0.5)
V2_HEAD = {"head": V2.head, "temperature": V2.temperature}
CASES = {
    "end to end": END_TO_END,
    "end to end, v2": replace(END_TO_END, **V2_HEAD, channels_last=True),
    "end to end, 2 parts, clipped": replace(END_TO_END, accumulate=2, clip=0.3),
    "end to end, not shuffled": replace(END_TO_END, shuffle=False),
    "end to end, 2 BN groups a process": replace(END_TO_END, bn_groups=2),
    "end to end, SyncBN over all": replace(END_TO_END, sync=True),
    "bank": BANK,
    "bank, v2": replace(BANK, **V2_HEAD, channels_last=True),
    "bank, 2 parts, clipped": replace(BANK, accumulate=2, clip=0.3),
    "bank, more keys than images": replace(BANK, queue_size=IMAGES + 10),
    "bank, 2 BN groups a process": replace(BANK, bn_groups=2),
}


def gradients(case: Case) -> dict[str, Tensor]:
    """Return the gradients of one step, averaged over the ranks."""
    model = initial_model(case)
    step = TrainingStep(model, torch.optim.SGD(model.parameters(), LR))
    step(rank_slice(images(0, 0)), rank_slice(images(0, 1)), rank_slice(indices(0)), generators(case, 0))
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def gathered_gradient() -> tuple[Tensor, Tensor]:
    """Rank r weighs all gathered rows with r + 1: a row's gradient is the sum of these weights, 1 + 2 + 3 + 4."""
    rows = torch.full((2, 3), float(distributed.rank()), requires_grad=True)
    everything = all_gather(rows)  # (world size x 2, 3)
    (everything * (distributed.rank() + 1)).sum().backward()
    return everything.detach(), distributed.all_gather(rows.grad)


def on_four_ranks() -> dict[str, Any]:
    found: dict[str, Any] = dict(zip(CASES, run_production_cases(list(CASES.values())), strict=True))
    found["gradients"] = [gradients(case) for case in (END_TO_END, BANK)]
    found["gathered"] = gathered_gradient()
    return found


@pytest.fixture(scope="module")
def four_ranks() -> dict[str, Any]:
    """The results of four gloo processes."""
    return spawn.run_on_ranks(on_four_ranks, WORLD)


@pytest.mark.parametrize("name", CASES)
def test_twenty_steps_of_one_process_are_the_reference(name: str) -> None:
    assert_same(run_production(CASES[name]), run_reference(CASES[name]))


@pytest.mark.parametrize("name", CASES)
def test_twenty_steps_of_four_ranks_are_the_reference(name: str, four_ranks: dict[str, Any]) -> None:
    assert_same(four_ranks[name], run_reference(CASES[name], WORLD))


@pytest.mark.parametrize("position", [0, 1], ids=["end to end", "bank"])
def test_four_ranks_have_the_gradients_of_four_bn_groups(position: int, four_ranks: dict[str, Any]) -> None:
    case = (END_TO_END, BANK)[position]
    assert_same(four_ranks["gradients"][position], gradients(replace(case, bn_groups=WORLD)), 1e-12)


def test_all_gather_sums_the_gradients_of_all_ranks(four_ranks: dict[str, Any]) -> None:
    everything, gradient = four_ranks["gathered"]
    assert torch.equal(everything, torch.arange(4.0).repeat_interleave(2)[:, None].expand(8, 3))
    assert torch.equal(gradient, torch.full((8, 3), 10.0))
    rows = torch.ones(2, 3, requires_grad=True)
    assert all_gather(rows) is rows  # one process


def test_the_cases_would_notice_a_difference() -> None:
    changes: dict[Case, list[dict[str, Any]]] = {
        replace(END_TO_END, bn_groups=2): [{"shuffle": False}, {"bn_groups": 1}, {"accumulate": 2}],
        BANK: [{"momentum": 0.6}, {"queue_size": 12}, {"accumulate": 2}],
    }
    for base, others in changes.items():
        for change in others:
            difference = run_reference(replace(base, **change))["losses"] - run_reference(base)["losses"]
            assert difference.abs().max() > 1e-4, change


def test_end_to_end_keys_have_gradient_and_nothing_is_stored() -> None:
    model = EndToEnd(small_encoder())
    assert model.negatives is None
    assert all(name.startswith("encoder_q.") for name in model.state_dict())
    keys = []
    model.encoder_q.register_forward_hook(lambda *call: keys.append(call[-1]))
    output = model(images(0, 0).float(), images(0, 1).float(), indices(0), generators(V1, 0)[0])
    keys[1].retain_grad()
    output.loss.backward()
    assert keys[1].grad.abs().sum() > 0
    assert not output.keys.requires_grad


def test_end_to_end_of_one_image_by_another_is_a_coin_at_first() -> None:
    """With all features the same every key is as likely: the loss is log K."""
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(12, DIM))
    nn.init.zeros_(encoder[1].weight)
    x = torch.randn(6, 3, 2, 2)
    output = EndToEnd(encoder)(x, x, torch.arange(6), torch.Generator())
    assert output.loss.item() == pytest.approx(torch.tensor(6.0).log().item())
    assert output.accuracy.item() == 0  # a tie is no success


def bank_of(size: int, negatives: int, momentum: float = 0.5) -> MemoryBank:
    torch.manual_seed(0)
    return MemoryBank(small_encoder(), DIM, size, negatives, momentum)


def test_bank_begins_random_and_stays_on_the_sphere() -> None:
    model = bank_of(500, 10)
    torch.testing.assert_close(model.bank.norm(dim=1), torch.ones(500))
    assert model.bank.mean(0).norm() < 0.3
    before = model.bank.clone()
    model.after_step(nn.functional.normalize(torch.randn(4, DIM), dim=1), torch.tensor([3, 499, 0, 7]))
    torch.testing.assert_close(model.bank.norm(dim=1), torch.ones(500))
    moved = (model.bank != before).any(1).nonzero().flatten()
    assert moved.tolist() == [0, 3, 7, 499]


@pytest.mark.parametrize(("momentum", "expected"), [(0.0, [0.0, 1.0]), (0.25, [0.25, 0.75]), (1.0, [1.0, 0.0])])
def test_entry_moves_by_momentum_and_the_last_of_two_counts(momentum: float, expected: list[float]) -> None:
    model = MemoryBank(nn.Identity(), 2, 3, momentum=momentum)
    model.bank[1] = torch.tensor([1.0, 0.0])
    features = torch.tensor([[-1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    model.after_step(features, torch.tensor([1, 2, 1]))
    torch.testing.assert_close(model.bank[1], nn.functional.normalize(torch.tensor(expected), dim=0))


def test_a_querys_own_entry_is_not_a_negative() -> None:
    """A bank of one image holds no negative at all: whatever is drawn, the loss is 0."""
    x = images(0, 0).float()
    output = bank_of(1, 8)(x, x, torch.zeros(len(x), dtype=torch.long), torch.Generator())
    assert output.loss.item() == 0
    assert output.accuracy.item() == 1


def test_bank_has_no_gradient_and_one_dictionary_for_all() -> None:
    model = bank_of(IMAGES, 5)
    x = images(0, 0).float()
    output = model(x, x, indices(0), torch.Generator().manual_seed(2))
    output.loss.backward()
    assert model.bank.grad is None
    drawn = torch.randint(IMAGES, (5,), generator=torch.Generator().manual_seed(2))
    near = (output.query * model.bank[indices(0)]).sum(1, keepdim=True)
    far = (output.query @ model.bank[drawn].T).masked_fill(indices(0)[:, None] == drawn, -torch.inf)
    expected = -torch.log_softmax(torch.cat([near, far], 1) / 0.07, dim=1)[:, 0].mean()
    torch.testing.assert_close(output.loss.detach(), expected)


@pytest.mark.parametrize(("size", "negatives"), [(100, 8), (100, 100), (5, 60), (101, 50)])
def test_diagnostics_see_as_many_entries_as_negatives(size: int, negatives: int) -> None:
    model = bank_of(size, negatives)
    assert min(size, negatives) <= len(model.negatives) <= 2 * negatives
    assert model.negatives.untyped_storage().data_ptr() == model.bank.untyped_storage().data_ptr()


@pytest.mark.parametrize("case", [END_TO_END, BANK], ids=["end to end", "bank"])
def test_checkpoint_holds_the_encoders_published_name(case: Case) -> None:
    source, target = initial_model(case), initial_model(case)
    with torch.no_grad():
        for tensor in [*source.parameters(), *source.buffers()]:
            tensor.copy_(torch.rand_like(tensor.double()).to(tensor.dtype))
    state = published_state(source)
    names = {f"module.encoder_q.{name}" for name in small_encoder().state_dict()}
    assert set(state) - {"module.bank"} == names
    load_published_state(target, state)
    for name, tensor in source.state_dict().items():
        assert torch.equal(tensor, target.state_dict()[name]), name
