"""The production step against Algorithm 1, on one process and on four; the queue against a plain list."""

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from pretrain.models.encoders import build_encoder
from pretrain.models.moco import KeyQueue, MoCo
from pretrain.models.published_state import load_published_state, published_state
from pretrain.runtime import spawn
from tests.support.pretrain.small_runs import (
    DIM,
    V1,
    V2,
    Case,
    assert_same,
    initial_model,
    run_production,
    run_production_cases,
    run_reference,
)
from transfer.weights import source

WORLD = 4

# 20 steps in float64, within 1e-10. In fp16 a float64 model is not cast, but its loss is scaled by a power of two: the
# numbers stay exact, and the path through the scaler is held to them.
EXACT = {
    f"{version}, {name}": replace(case, **change)
    for version, case in {"v1": V1, "v2": V2}.items()
    for name, change in {
        "contiguous": {},
        "channels last": {"channels_last": True},
        "2 parts": {"accumulate": 2},
        "2 parts, channels last": {"accumulate": 2, "channels_last": True},
        "clipped, 2 parts": {"accumulate": 2, "clip": 0.3},
        "loss scaling, clipped": {"precision": "fp16", "clip": 0.3},
        "queue that wraps in the middle of a batch": {"queue_size": 37},
        "queue of four batches": {"queue_size": 64},
        "queue of one key": {"queue_size": 1},
        "not shuffled": {"shuffle": False},
        "2 BN groups a process": {"bn_groups": 2},
        "BN in eval mode": {"evaluation": True},
        "SyncBN over all": {"sync": True},
    }.items()
}
# One step in float32, within 1e-5 of the reference in float64.
SINGLE = {
    f"{version}, {name}": replace(case, dtype=torch.float32, steps=1, **change)
    for version, case in {"v1": V1, "v2": V2}.items()
    for name, change in {
        "contiguous": {},
        "channels last": {"channels_last": True},
        "2 parts": {"accumulate": 2},
    }.items()
}


@pytest.fixture(scope="module")
def four_ranks() -> dict[str, dict[str, Tensor]]:
    """The results of four gloo processes."""
    cases = EXACT | {f"float32, {name}": case for name, case in SINGLE.items()}
    return dict(zip(cases, spawn.run_on_ranks(run_production_cases, WORLD, list(cases.values())), strict=True))


@pytest.mark.parametrize("name", EXACT)
def test_twenty_steps_of_one_process_are_algorithm_1(name: str) -> None:
    case = replace(EXACT[name], bn_groups=1 if EXACT[name].sync else WORLD * EXACT[name].bn_groups // 2)
    assert_same(run_production(case), run_reference(case))


@pytest.mark.parametrize("name", EXACT)
def test_twenty_steps_of_four_ranks_are_algorithm_1(name: str, four_ranks: dict[str, dict[str, Tensor]]) -> None:
    assert_same(four_ranks[name], run_reference(EXACT[name], WORLD))


@pytest.mark.parametrize("name", SINGLE)
def test_a_step_in_float32_is_algorithm_1(name: str, four_ranks: dict[str, dict[str, Tensor]]) -> None:
    assert_same(run_production(SINGLE[name]), run_reference(SINGLE[name]), 1e-5)
    assert_same(four_ranks[f"float32, {name}"], run_reference(SINGLE[name], WORLD), 1e-5)


def test_as_many_bn_groups_are_as_many_ranks(four_ranks: dict[str, dict[str, Tensor]]) -> None:
    assert_same(run_production(replace(V1, bn_groups=WORLD)), four_ranks["v1, contiguous"])


def test_the_cases_would_notice_a_difference() -> None:
    """The reference itself must differ between the cases, or the comparisons above prove nothing."""
    base = replace(V1, bn_groups=2)
    changes: list[dict[str, Any]] = [
        {"shuffle": False},
        {"bn_groups": 1},
        {"bn_groups": 4},
        {"momentum": 0.8},
        {"temperature": 0.08},
        {"queue_size": 12},
        {"accumulate": 2},
        {"clip": 0.3},
        {"evaluation": True},
    ]
    losses = run_reference(base)["losses"]
    for change in changes:
        assert (run_reference(replace(base, **change))["losses"] - losses).abs().max() > 1e-4, change


def test_momentum_moves_parameters_and_leaves_buffers() -> None:
    model = initial_model(Case(momentum=0.75))
    with torch.no_grad():
        for tensor in [*model.encoder_q.parameters(), *model.encoder_q.buffers()]:
            tensor.copy_(torch.full_like(tensor, 4))
        for tensor in [*model.encoder_k.parameters(), *model.encoder_k.buffers()]:
            tensor.copy_(torch.full_like(tensor, 8))
    model.before_step()
    assert {p.unique().item() for p in model.encoder_k.parameters()} == {7.0}
    assert {b.unique().item() for b in model.encoder_k.buffers()} == {8}
    assert not any(p.requires_grad for p in model.encoder_k.parameters())


@pytest.mark.parametrize(("momentum", "same_as"), [(1.0, "itself"), (0.0, "query")])
def test_the_ends_of_momentum(momentum: float, same_as: str) -> None:
    model = initial_model(Case(momentum=momentum))
    with torch.no_grad():
        for parameter in model.encoder_q.parameters():
            parameter.add_(1)
    before = copy.deepcopy(model)
    model.before_step()
    expected = before.encoder_q if same_as == "query" else before.encoder_k
    for found, wanted in zip(model.encoder_k.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("arch", "head"), [("resnet18", "fc"), ("resnet34", "mlp"), ("resnet101", "mlp")])
def test_encoders_have_the_published_names(arch: str, head: str) -> None:
    with torch.device("meta"):
        model = MoCo(build_encoder(arch, 16, head), 16, 32)
        wanted = set(torchvision.models.get_model(arch).state_dict()) - {"fc.weight", "fc.bias"}
    heads = {"fc": {"fc.weight", "fc.bias"}, "mlp": {f"fc.{i}.{kind}" for i in (0, 2) for kind in ("weight", "bias")}}
    names = {f"module.encoder_{side}.{name}" for side in "qk" for name in wanted | heads[head]}
    assert set(published_state(model)) == names | {"module.queue", "module.queue_ptr"}


def test_the_published_layout_goes_round() -> None:
    source, target = initial_model(V1), initial_model(V1)
    source.queue.enqueue(torch.randn(4, DIM))
    with torch.no_grad():
        for tensor in [*source.parameters(), *source.buffers()]:
            tensor.copy_(torch.rand_like(tensor.double()).to(tensor.dtype))
    state = published_state(source)
    assert state["module.queue"].shape == (DIM, 11)
    assert state["module.queue_ptr"].tolist() == [4]
    load_published_state(target, state)
    assert target.queue.pointer == 4
    for name, tensor in source.state_dict().items():
        assert torch.equal(tensor, target.state_dict()[name]), name


def test_a_file_in_the_released_layout_gives_its_query_encoder(tmp_path: Any) -> None:
    """As the published code writes it: DDP's names, both encoders, queue (dim, K), SGD's state."""
    encoder_q, encoder_k = torchvision.models.resnet18(num_classes=128), torchvision.models.resnet18(num_classes=128)
    state = {f"module.encoder_q.{name}": tensor for name, tensor in encoder_q.state_dict().items()}
    state |= {f"module.encoder_k.{name}": tensor for name, tensor in encoder_k.state_dict().items()}
    state |= {"module.queue": torch.randn(128, 256), "module.queue_ptr": torch.tensor([32])}
    optimizer = torch.optim.SGD(encoder_q.parameters(), 0.03, 0.9, weight_decay=1e-4)
    path = tmp_path / "moco_v1_200ep_pretrain.pth.tar"
    torch.save({"epoch": 200, "arch": "resnet18", "state_dict": state, "optimizer": optimizer.state_dict()}, path)
    found = source.read_pretrained(path)
    assert (found.architecture.name, found.epoch) == ("resnet18", 200)
    backbone = {name: tensor for name, tensor in encoder_q.state_dict().items() if not name.startswith("fc.")}
    assert found.state.keys() == backbone.keys()
    assert all(torch.equal(found.state[name], tensor) for name, tensor in backbone.items())
    assert set(found.dropped) == {name for name in state if "encoder_q" not in name or ".fc." in name}


@settings(deadline=None)
@given(st.integers(1, 12), st.lists(st.integers(1, 30), max_size=8))
def test_queue_holds_the_newest_keys_in_order(size: int, batches: list[int]) -> None:
    queue = KeyQueue(size, 2)
    plain = [tuple(key) for key in queue.keys.tolist()]  # oldest first
    count = 0
    for n in batches:
        keys = torch.arange(count, count + 2 * n, dtype=torch.float32).view(n, 2)
        count += 2 * n
        queue.enqueue(keys)
        plain = (plain + [tuple(key) for key in keys.tolist()])[-size:]
        oldest_first = queue.keys.roll(-queue.pointer, 0).tolist()
        assert [tuple(key) for key in oldest_first] == plain


def test_queue_starts_with_random_directions() -> None:
    keys = KeyQueue(500, 16).keys
    torch.testing.assert_close(keys.norm(dim=1), torch.ones(500))
    assert keys.mean(0).norm() < 0.3


def test_queue_keeps_no_graph() -> None:
    queue = KeyQueue(4, 2)
    queue.enqueue(torch.ones(2, 2, requires_grad=True) * 2)
    assert not queue.keys.requires_grad


def queue_of(size: int) -> MoCo:
    return MoCo(nn.Identity(), dim=1, queue_size=size)


@given(st.integers(0, 60), st.integers(1, 30), st.integers(1, 100))
def test_queue_age_is_that_of_a_queue_of_step_numbers(steps: int, batch: int, size: int) -> None:
    queue: list[int | None] = [None] * size  # the step that made each key, the newest last
    for step in range(1, steps + 1):
        queue = (queue + [step] * batch)[-size:]
    made = [step for step in queue if step is not None]
    assert queue_of(size).diagnostics(steps, batch) == {
        "queue_age": steps + 1 - min(made) if made else 0,
        "queue_random": pytest.approx(queue.count(None) / size),
    }


def test_the_published_queue_is_256_steps_deep() -> None:
    assert queue_of(65536).diagnostics(10_000, 256) == {"queue_age": 256.0, "queue_random": 0.0}
    assert queue_of(65536).diagnostics(64, 256) == {"queue_age": 64.0, "queue_random": 0.75}
