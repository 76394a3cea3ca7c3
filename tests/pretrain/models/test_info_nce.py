"""The loss in one pass against its plain formula."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from pretrain.models import info_nce as module
from pretrain.models.info_nce import info_nce

DIM = 5


def unit(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return nn.functional.normalize(torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1)


def plain(query: Tensor, positive: Tensor, negatives: Tensor, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """Loss, its gradient for the query, and accuracy: cross-entropy with the positive first."""
    query = query.detach().clone().requires_grad_()
    logits = torch.cat([(query * positive).sum(1, keepdim=True), query @ negatives.T], dim=1) / temperature
    loss = nn.functional.cross_entropy(logits, torch.zeros(len(query), dtype=torch.long))
    (gradient,) = torch.autograd.grad(loss, query)
    return loss.detach(), gradient, (logits.argmax(1) == 0).double().mean()


@given(
    n=st.integers(1, 7),
    k=st.integers(1, 40),
    piece=st.integers(1, 41),
    temperature=st.sampled_from([0.01, 0.07, 0.2, 1.0]),
    seed=st.integers(0, 10**6),
)
def test_it_is_cross_entropy_of_the_positive_first(n: int, k: int, piece: int, temperature: float, seed: int) -> None:
    """In float64 to 1e-12, however the negatives are cut into pieces."""
    query, positive, negatives = unit(n, DIM, seed=seed), unit(n, DIM, seed=seed + 1), unit(k, DIM, seed=seed + 2)
    query.requires_grad_()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PIECE", piece)
        loss, accuracy = info_nce(query, positive, negatives, temperature)
        (3 * loss).backward()
    expected, gradient, nearest = plain(query, positive, negatives, temperature)
    torch.testing.assert_close(loss.detach(), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(query.grad, 3 * gradient, rtol=1e-12, atol=1e-12)
    assert accuracy == nearest


@pytest.mark.parametrize("temperature", [0.07, 0.2])
def test_with_the_published_queue_in_float32(temperature: float) -> None:
    query, positive, negatives = unit(32, 128), unit(32, 128, seed=1), unit(65536, 128, seed=2)
    expected, gradient, _ = plain(query, positive, negatives, temperature)
    single = query.float().requires_grad_()
    loss, _ = info_nce(single, positive.float(), negatives.float(), temperature)
    loss.backward()
    assert abs(loss.item() - expected.item()) < 1e-5
    assert (single.grad - gradient).abs().max() < 1e-7


def test_scores_far_beyond_exp_are_no_matter() -> None:
    """1000 apart: exp of them is 0 or infinite."""
    query = torch.tensor([[1.0, 0.0], [1.0, 0.0]], requires_grad=True)
    positive = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    loss, accuracy = info_nce(query, positive, torch.tensor([[0.0, 1.0], [1.0, 0.0]]), 0.002)
    expected = (torch.tensor(2.0).log() + 1000) / 2  # the first ties with the second negative, the other is 1000 below
    assert loss.item() == pytest.approx(expected.item())
    assert accuracy.item() == 0
    loss.backward()
    assert query.grad.isfinite().all()


def test_equal_scores_give_the_log_of_their_number() -> None:
    same = torch.zeros(2, DIM)
    loss, accuracy = info_nce(same, same, torch.zeros(99, DIM), 0.5)
    assert loss.item() == pytest.approx(torch.tensor(100.0).log().item())
    assert accuracy.item() == 0  # a tie is no success


def test_neither_keys_nor_dictionary_get_a_gradient() -> None:
    query, positive, negatives = (unit(3, DIM, seed=seed).requires_grad_() for seed in range(3))
    info_nce(query, positive, negatives, 0.1)[0].backward()
    assert query.grad is not None
    assert positive.grad is None
    assert negatives.grad is None


def test_what_is_not_a_number_stays_so() -> None:
    query = unit(3, DIM)
    query[1, 2] = torch.nan
    query.requires_grad_()
    loss, _ = info_nce(query, unit(3, DIM, seed=1), unit(9, DIM, seed=2), 0.1)
    assert loss.isnan()
