"""The predictions of docs/measurements/scale.md follow from what it says they follow from."""

import math
import pathlib
import re

import pytest

from benchmarks.scaling_model import BUCKET, GPUS_A_NODE, LATENCY, NETWORK, Setup, measure
from benchmarks.step_profile import SENT

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "measurements" / "scale.md").read_text()
WORLDS = (64, 512)
N, VIEW, KEY = 32, 3 * 224 * 224, 4 * 128  # images a GPU; bytes of an image and of a key
H100, V100 = 2000, 200 * 1_281_167 / (53 * 3600) / 8  # pairs/s
PREFIX = 5500  # GET/s that S3 bears at least
IMAGE = 115e3  # bytes


def rows(heading: str) -> list[list[str]]:
    """The cells of the table whose first line begins so."""
    lines = PAGE[PAGE.index(f"| {heading} |") :].split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def numbers(cell: str) -> list[float]:
    return [float(number.replace(",", "")) for number in re.findall(r"\d[\d.]*(?:,\d{3})*", cell)]


@pytest.mark.parametrize("row", rows("adapter of a node"), ids=lambda row: row[0])
def test_steps_through_one_adapter_a_node(row: list[str]) -> None:
    speed = numbers(row[0])[0] / 8 * 1e6  # bytes a millisecond
    found = measure(Setup(worlds=WORLDS), lambda said, done, of: None)
    gradient_bytes = 4 * found["setup"]["parameters"]
    for column, world in enumerate(WORLDS):
        terms = found["worlds"][str(world)]["ours"]
        rest = 1e3 * sum(terms[name] for name in ("momentum", "optimiser", "logits", "latencies"))
        gradients = SENT["all_reduce"](world) * gradient_bytes / speed
        images = GPUS_A_NODE * N * VIEW * (world - GPUS_A_NODE) / world
        waited = (images + SENT["all_gather"](world) * N * KEY) / speed
        steps = []
        for rate in (H100, V100):
            encoders = 1e3 * N / rate
            exposed = max(SENT["all_reduce"](world) * BUCKET / speed, gradients - encoders / 2)
            steps.append((encoders + exposed + waited + rest, exposed))
        (step, exposed), (slow, _) = steps
        expected = (gradients, exposed, waited, step, 1e3 * N / step, 1e3 * N / slow)
        for cell, value in zip(row[1:], expected, strict=True):
            assert numbers(cell)[column] == pytest.approx(value, abs=0.06 if value < 100 else 1), cell
    assert pytest.approx(0.64, abs=0.01) == rest
    assert LATENCY[NETWORK] * 7 == pytest.approx(0.35e-3)


@pytest.mark.parametrize("row", rows("GPUs"), ids=lambda row: row[0])
def test_what_storage_must_give(row: list[str]) -> None:
    gpus = int(row[0])
    for column, rate in enumerate((round(V100), H100)):
        images = gpus * rate
        assert numbers(row[1])[column] == images
        assert numbers(row[2])[column] == pytest.approx(images * IMAGE / 1e9, abs=0.06)
        assert numbers(row[3])[column] == math.ceil(images / PREFIX)


def test_cores() -> None:
    for _, per_core, slow, fast, remote in rows("`data.pipeline`"):
        rate = float(per_core)
        assert float(slow) == pytest.approx(V100 / rate, abs=0.06)
        assert float(fast) == pytest.approx(H100 / rate, abs=0.06)
        low, high = map(float, remote.split(" to "))
        assert (low, high) == pytest.approx((H100 * (1 / rate + 1.3e-3), H100 * (1 / rate + 3.1e-3)), abs=0.06)
