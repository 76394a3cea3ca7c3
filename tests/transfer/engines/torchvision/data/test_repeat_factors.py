"""Repeat factor sampling: by hand, and index by index that of Detectron2 on real LVIS annotations."""

import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from transfer.engines.torchvision.data.repeat_factors import repeat_factors, repeated_stream


def records(*shown: set[int]) -> list[dict[str, Any]]:
    return [{"annotations": [{"category_id": index} for index in classes]} for classes in shown]


@pytest.fixture
def real(shared_data: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    path = shared_data.parent / "reference" / "tasks" / "loaders" / "lvis_detectron2.json"
    if not path.is_file():
        pytest.skip(f"no recorded order: {path} is not there")
    content = json.loads((shared_data / "lvis_val_100" / "lvis_val_100.json").read_text())
    shown: dict[int, set[int]] = {image["id"]: set() for image in content["images"]}
    for item in content["annotations"]:
        shown[item["image_id"]].add(item["category_id"] - 1)
    return records(*(shown[own] for own in sorted(shown))), json.loads(path.read_text())


@pytest.mark.parametrize("threshold", ["0.001", "0.02", "0.1"])
def test_factors_are_those_of_detectron2(threshold: str, real: tuple[list[dict[str, Any]], dict[str, Any]]) -> None:
    made, recorded = real
    factors = repeat_factors(made, float(threshold))
    assert factors.tolist() == pytest.approx(recorded[f"repeat_factors_{threshold}"], abs=1e-6)


def test_the_order_is_that_of_detectron2(real: tuple[list[dict[str, Any]], dict[str, Any]]) -> None:
    made, recorded = real
    draws = list(itertools.islice(repeated_stream(repeat_factors(made, 0.1), seed=3), 300))
    assert [index for _, index in draws] == recorded["sampler_threshold_0.1_seed_3_first_300"]
    assert [position for position, _ in draws] == list(range(300))


def test_an_image_has_the_factor_of_its_rarest_class() -> None:
    made = records({0}, {0, 1}, {0}, set())
    assert repeat_factors(made, 0.5).tolist() == pytest.approx([1, 2**0.5, 1, 1])
    assert repeat_factors(made, 0.5, sqrt=False).tolist() == [1, 2, 1, 1]


def test_a_fractional_factor_repeats_that_share_of_the_rounds() -> None:
    drawn = itertools.islice(repeated_stream(torch.tensor([1.0, 2.5]), seed=0), 3500)
    counts = Counter(index for _, index in drawn)
    assert counts[1] / counts[0] == pytest.approx(2.5, abs=0.1)


def test_factors_of_1_are_a_permutation_a_round() -> None:
    drawn = [index for _, index in itertools.islice(repeated_stream(torch.ones(5), seed=1), 10)]
    assert sorted(drawn[:5]) == sorted(drawn[5:]) == [0, 1, 2, 3, 4]
