"""The signs of health: their values where they are known, and their definition written out."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from pretrain.engine.diagnostics import diagnose_features


def sphere(rows: int, dim: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_spread_features_deviate_by_one_collapsed_by_zero() -> None:
    axes = torch.cat([torch.eye(16), -torch.eye(16)])  # as even as can be
    assert diagnose_features(axes, axes)["feature_std"].item() == pytest.approx(1, abs=1e-6)
    assert diagnose_features(sphere(4096, 64), sphere(4096, 64))["feature_std"].item() == pytest.approx(1, abs=0.01)
    point = sphere(1, 64).expand(32, 64)
    assert diagnose_features(point, point)["feature_std"].item() == pytest.approx(0, abs=1e-6)
    half = torch.cat([torch.eye(16)[:8], -torch.eye(16)[:8]])  # half of the dimensions are dead
    assert diagnose_features(half, half)["feature_std"].item() == pytest.approx(math.sqrt(0.5), abs=1e-6)


@given(st.integers(1, 40), st.integers(1, 33), st.integers(1, 50), st.integers(0, 2**31))
def test_every_number_is_its_definition(n: int, dim: int, k: int, seed: int) -> None:
    query, positive, negatives = sphere(n, dim, seed), sphere(n, dim, seed + 1), sphere(k, dim, seed + 2)
    found = diagnose_features(query, positive, negatives)
    assert {key: (value.shape, value.dtype) for key, value in found.items()} == dict.fromkeys(
        ("feature_std", "positive_similarity", "negative_similarity"), ((), torch.float32)
    )
    deviation = [query[:, i].double().var(correction=0).sqrt().item() for i in range(dim)]
    pairs = [float(q.double() @ k.double()) for q in query for k in negatives]
    own = [float(q.double() @ p.double()) for q, p in zip(query, positive, strict=True)]
    assert found["feature_std"].item() == pytest.approx(sum(deviation) / dim * math.sqrt(dim), abs=1e-5)
    assert found["positive_similarity"].item() == pytest.approx(sum(own) / n, abs=1e-5)
    assert found["negative_similarity"].item() == pytest.approx(sum(pairs) / (n * k), abs=1e-5)
    assert found["feature_std"].item() <= 1 + 1e-5


def test_no_dictionary_means_no_negative_similarity() -> None:
    query = sphere(4, 8).requires_grad_()
    found = diagnose_features(query, sphere(4, 8))
    assert set(found) == {"feature_std", "positive_similarity"}
    assert not any(value.requires_grad for value in found.values())


def test_features_of_autocast_are_measured_in_float32() -> None:
    query = sphere(256, 32).bfloat16()
    found = diagnose_features(query, query, query)
    assert all(value.dtype == torch.float32 for value in found.values())
    assert found["positive_similarity"].item() == pytest.approx(1, abs=1e-2)
