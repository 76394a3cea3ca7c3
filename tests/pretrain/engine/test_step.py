"""The step around a method: precision, clipping, numbers that are not finite, what the ranks send."""

import copy
import pickle
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from pretrain.engine.finite_check import NotFiniteError
from pretrain.engine.optim import SGD
from pretrain.engine.step import TrainingStep
from pretrain.models.normalize import normalize
from pretrain.runtime import distributed, spawn
from pretrain.runtime.errors import PretrainError
from tests.support.pretrain import small_runs
from tests.support.pretrain.small_runs import (
    HALF,
    LR,
    V1,
    V2,
    Case,
    generators,
    images,
    indices,
    inf_in_an_element_of_a_gradient,
    initial_model,
    overflowing,
    rank_slice,
)

WORLD = 4


@pytest.mark.parametrize("name", HALF)
def test_a_step_in_half_precision_is_within_bounds(name: str, four_ranks: dict[str, Any]) -> None:
    case, bounds = HALF[name]
    for found in (four_ranks[name], small_runs.run_production(replace(case, bn_groups=WORLD))):
        off = small_runs.half_precision_errors(case, found, WORLD)
        assert all(error < bound for error, bound in zip(off, bounds, strict=True))
        assert off[-1] > 0  # it was half precision


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_weights_queue_and_momentum_are_fp32_in_every_precision(precision: str) -> None:
    """In bf16 a momentum of 0.999 would not move the key encoder at all."""
    model = initial_model(replace(V2, dtype=torch.float32))
    begin_q, begin_k = copy.deepcopy(model.encoder_q), copy.deepcopy(model.encoder_k)
    with torch.no_grad():
        for parameter in begin_q.parameters():
            parameter.add_(0.01)
    model.encoder_q.load_state_dict(begin_q.state_dict())
    step = TrainingStep(model, torch.optim.SGD(model.parameters(), LR), precision)
    x = [images(0, view, torch.float32) for view in (0, 1)]
    result = step(*x, indices(0), generators(V2, 0))
    assert {tensor.dtype for tensor in [*model.parameters(), model.queue.keys, result.query, result.positive]} == {
        torch.float32
    }
    torch.testing.assert_close(model.queue.keys.norm(dim=1), torch.ones(11), rtol=0, atol=1e-6)
    for found, k, q in zip(model.encoder_k.parameters(), begin_k.parameters(), begin_q.parameters(), strict=True):
        torch.testing.assert_close(found.double(), 0.999 * k.double() + 0.001 * q.double(), rtol=0, atol=1e-7)
        assert not torch.equal(found, k)


def test_the_gradient_is_cut_to_the_norm_and_no_further() -> None:
    """torch's formula: g * min(1, clip / (norm + 1e-6)); the reported norm is the one before clipping."""

    def stepped(clip: float) -> tuple[Tensor, list[Tensor]]:
        model = initial_model(V1)
        step = TrainingStep(model, torch.optim.SGD(model.parameters(), LR), clip_norm=clip)
        norm = step(*(images(0, view) for view in (0, 1)), indices(0), generators(V1, 0)).gradient_norm
        return norm, [p.grad for p in model.encoder_q.parameters()]

    norm, free = stepped(0)
    torch.testing.assert_close(norm, torch.cat([g.flatten() for g in free]).norm())
    for clip in (0.1 * norm.item(), 10 * norm.item()):
        reported, cut = stepped(clip)
        torch.testing.assert_close(reported, norm)
        for g, g_free in zip(cut, free, strict=True):
            torch.testing.assert_close(g, g_free * min(1.0, clip / (norm.item() + 1e-6)))


Poison = Callable[[Any, TrainingStep, list[Tensor]], None]


def nan_in_the_loss(model: Any, step: TrainingStep, x: list[Tensor]) -> None:
    x[0][0, 0, 0, 0] = torch.nan


def inf_in_the_loss(model: Any, step: TrainingStep, x: list[Tensor]) -> None:
    model.register_forward_hook(lambda *call: call[-1]._replace(loss=call[-1].loss * torch.inf))


def nan_in_a_gradient(model: Any, step: TrainingStep, x: list[Tensor]) -> None:
    model.encoder_q[0].weight.register_hook(lambda gradient: gradient * torch.nan)


POISONS: dict[str, tuple[Case, Poison, str]] = {
    "NaN loss": (V1, nan_in_the_loss, "loss on rank 2"),
    "inf loss": (V1, inf_in_the_loss, "loss on rank 2"),
    "NaN gradient": (V1, nan_in_a_gradient, "gradient on rank 2"),
    "inf gradient": (V1, inf_in_an_element_of_a_gradient, "gradient on rank 2"),
    "NaN loss in 2 parts": (replace(V1, accumulate=2), nan_in_the_loss, "loss on rank 2"),
    "NaN gradient in 2 parts, clipped": (replace(V1, accumulate=2, clip=0.3), nan_in_a_gradient, "gradient on rank 2"),
    "NaN loss of fp16": (replace(V1, precision="fp16"), nan_in_the_loss, "loss on rank 2"),
    "NaN loss, end to end": (replace(V1, method="end_to_end"), nan_in_the_loss, "loss on rank 2"),
    "NaN gradient, memory bank": (replace(V1, method="memory_bank"), nan_in_a_gradient, "gradient on rank 2"),
}


def poisoned(case: Case, poison: Poison, culprit: int) -> tuple[list[str], bool]:
    """Return what every rank says of a third step that is poisoned on one of them, and whether all is as it was."""
    model = initial_model(case)
    optimizer = torch.optim.SGD(model.parameters(), LR, 0.9, weight_decay=1e-4)
    step = TrainingStep(model, optimizer, case.precision, case.clip)
    said = ""
    for at in range(3):
        x = [rank_slice(images(at, view, case.dtype)).clone() for view in (0, 1)]
        if at == 2 and distributed.rank() == culprit:
            poison(model, step, x)
        before = copy.deepcopy((held(model), optimizer.state_dict()))
        try:
            step(*x, rank_slice(indices(at)), generators(case, at))
        except PretrainError as error:
            said = str(error)
    after = (held(model), optimizer.state_dict())
    same = all(torch.equal(a, b) for a, b in zip(numbers(before), numbers(after), strict=True))
    return distributed.all_gather_object(said), all(distributed.all_gather_object(same))


def poisoned_and_found_late(culprit: int) -> dict[bool, list[tuple[str, int]]]:
    """Return what every rank says of a poisoned third step, and how long ago: in the next step, or at the flush."""
    found = {}
    for flush in (False, True):
        model = initial_model(V1)
        step = TrainingStep(model, torch.optim.SGD(model.parameters(), LR), delay=1)
        said = ("", -1)
        for at in range(4):
            x = [rank_slice(images(at, view)).clone() for view in (0, 1)]
            if at == 2 and distributed.rank() == culprit:
                x[0][0, 0, 0, 0] = torch.nan
            try:
                step(*x, rank_slice(indices(at)), generators(V1, at))
                if flush:
                    step.flush_checks()
            except NotFiniteError as error:
                said = f"step {at - error.steps_ago}: {error}", error.steps_ago
                break
        found[flush] = distributed.all_gather_object(said)
    return found


def held(model: Any) -> list[Any]:
    """Return what an update would change: weights, and the dictionary with its position."""
    dictionary = [] if model.negatives is None else [model.negatives]
    pointer = [torch.tensor(model.queue.pointer)] if hasattr(model, "queue") else []
    return [*model.encoder_q.parameters(), *dictionary, *pointer]


def numbers(nested: Any) -> list[Tensor]:
    if isinstance(nested, Tensor):
        return [nested.detach()]
    values = nested.values() if isinstance(nested, dict) else nested if isinstance(nested, list | tuple) else ()
    return [tensor for value in values for tensor in numbers(value)]


def collectives(case: Case) -> list[tuple[str, list[int]]]:
    """Every word between the ranks in a step, also those of DDP's own: (operation, shape of what this rank gives)."""
    model = initial_model(case)
    step = TrainingStep(model, torch.optim.SGD(model.parameters(), LR))
    batch = [rank_slice(images(0, 0)), rank_slice(images(0, 1)), rank_slice(indices(0))]
    for _ in range(2):  # DDP sorts its buckets in the first steps
        step(*batch, generators(case, 0))
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True, acc_events=True) as record:
        step(*batch, generators(case, 0))
    return [(e.name, e.input_shapes[0]) for e in record.events() if e.name.startswith("gloo:")]


def on_four_ranks() -> dict[str, Any]:
    warnings.simplefilter("error")
    found: dict[str, Any] = {name: poisoned(case, poison, 2) for name, (case, poison, _) in POISONS.items()}
    found |= {name: small_runs.run_production(case) for name, (case, _) in HALF.items()}
    found["overflow"] = overflowing(2.0**40, 40, always=False)
    found["endless overflow"] = overflowing(2.0**4, 10, always=True)
    found["late"] = poisoned_and_found_late(2)
    found["collectives"] = collectives(V1)
    found["collectives, memory bank"] = collectives(replace(V1, method="memory_bank"))
    found["collectives, 2 parts"] = collectives(replace(V1, accumulate=2))
    return found


@pytest.fixture(scope="module")
def four_ranks() -> dict[str, Any]:
    """The results of four gloo processes, in one launch."""
    return spawn.run_on_ranks(on_four_ranks, WORLD)


@pytest.mark.parametrize("name", POISONS)
def test_nan_on_one_rank_stops_all_before_the_update(name: str, four_ranks: dict[str, Any]) -> None:
    case, poison, named = POISONS[name]
    said, same = four_ranks[name]
    assert len(set(said)) == 1, "not every rank stopped with the same message"
    assert named in said[0]
    if case.method != "end_to_end":  # there the keys of all ranks get a share of each loss's gradient
        assert "rank 0" not in said[0]
    assert same
    said, same = poisoned(case, poison, 0)  # and one process alone
    assert named.replace("2", "0") in said[0]
    assert same


def test_a_delayed_check_names_the_same_step_on_every_rank(four_ranks: dict[str, Any]) -> None:
    """As on a GPU, which would have to run empty for a check to be read at once."""
    for found, rank in ((four_ranks["late"], 2), (poisoned_and_found_late(0), 0)):
        assert set(found[False]) == {(f"step 2: the loss on rank {rank} is nan", 1)}
        assert set(found[True]) == {(f"step 2: the loss on rank {rank} is nan", 0)}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_step_does_not_make_the_host_wait_for_the_gpu(precision: str) -> None:
    model = initial_model(replace(V2, dtype=torch.float32)).cuda()
    step = TrainingStep(model, SGD(model.parameters(), LR, 0.9), precision)
    views = [torch.randint(256, (small_runs.BATCH, 3, 9, 9), dtype=torch.uint8).cuda() for _ in range(2)]
    step(*views, indices(0), generators(V2, 0))
    torch.cuda.set_sync_debug_mode("error")
    try:
        for at in range(3):
            step(*views, indices(at), generators(V2, at))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    step.flush_checks()


def test_uint8_views_are_normalised_where_they_arrive() -> None:
    """So that ranks exchange a quarter of the bytes; the numbers are those of normalised views."""

    def trained(normalised: bool) -> dict[str, Tensor]:
        model = initial_model(replace(V1, dtype=torch.float32))
        step = TrainingStep(model, torch.optim.SGD(model.parameters(), LR))
        for at in range(2):
            views = [(images(at, view) * 60 + 120).clamp(0, 255).to(torch.uint8) for view in (0, 1)]
            if normalised:
                views = [normalize(view) for view in views]
            step(*views, indices(at), generators(V1, at))
        return small_runs.state(model)

    small_runs.assert_same(trained(False), trained(True), 0)


def test_fp16_overflow_skips_the_update_and_halves_the_scale(four_ranks: dict[str, Any]) -> None:
    for seen, said in (four_ranks["overflow"], overflowing(2.0**40, 40, always=False)):
        assert not any(said)
        scale, skipped = 2.0**40, 0
        for now, moved in seen:
            assert moved == (now == scale)  # GradScaler: half after an overflow, else as it was
            assert now in (scale, scale / 2)
            skipped += now < scale
            scale = now
        assert 10 < skipped < 40
        assert seen[-1][1]


def test_an_overflow_at_any_scale_stops_all_ranks(four_ranks: dict[str, Any]) -> None:
    for (seen, said), rank in ((four_ranks["endless overflow"], 2), (overflowing(2.0**4, 10, always=True), 0)):
        assert seen == [(8.0, False), (4.0, False), (2.0, False), (1.0, False)]
        assert len(set(said)) == 1
        assert f"gradient on rank {rank} is not finite" in said[0]


def test_a_step_sends_n_images_once_and_gathers_the_keys_once(four_ranks: dict[str, Any]) -> None:
    """No broadcast of a permutation, of the queue or of statistics; one reduction for all gradients."""
    n = small_runs.BATCH // WORLD
    gradients = [sum(p.numel() for p in small_runs.small_encoder().parameters())]
    shuffle = ("gloo:all_to_all", [n, 3, small_runs.SIDE, small_runs.SIDE])
    gather, reduce = ("gloo:all_gather", [n, small_runs.DIM]), ("gloo:all_reduce", gradients)
    assert four_ranks["collectives"] == [shuffle, gather, reduce]
    assert four_ranks["collectives, memory bank"] == [gather, reduce, ("gloo:all_gather", [n])]
    half = [("gloo:all_to_all", [n // 2, *shuffle[1][1:]]), ("gloo:all_gather", [n // 2, small_runs.DIM])]
    assert four_ranks["collectives, 2 parts"] == [*half, *half, reduce]


def test_its_error_travels_between_processes() -> None:
    error = pickle.loads(pickle.dumps(NotFiniteError("the loss on rank 1 is nan", 1)))  # noqa: S301
    assert (str(error), error.steps_ago) == ("the loss on rank 1 is nan", 1)
