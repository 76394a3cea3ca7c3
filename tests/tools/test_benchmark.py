"""tools/benchmark.py: every kind at its smallest, and what its numbers have to do with each other."""

import json
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import pytest

import benchmark
from benchmarks import arguments, interleave
from tests.support import forked_ranks
from tests.support.in_process import refusal

SMALL = ("--size", 32, "--batch", 4, "--steps", 1, "--repeats", 2)
STEP = ("--arch", "resnet18", "--queue", 64, "--threads", 1)
ENCODERS = {"query forward", "key forward", "backward"}
OURS = ENCODERS | {"momentum update", "shuffle", "logits and loss", "check", "optimiser", "enqueue"}
PUBLISHED = OURS - {"check"} | {"buffers broadcast"}

Measure = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def measure(tmp_path_factory: pytest.TempPathFactory) -> Measure:
    """Runs the tool in this process, which saves the seconds of a start; gives the JSON it wrote."""

    def run(*arguments: object) -> dict[str, Any]:
        path = tmp_path_factory.mktemp("benchmark") / "made" / "found.json"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["tools/benchmark.py", *map(str, arguments), "--json", str(path)])
            benchmark.main()
        return json.loads(path.read_text())

    return run


@pytest.fixture(scope="module")
def step(measure: Measure) -> dict[str, Any]:
    return measure("step", *SMALL, *STEP)


@pytest.fixture(scope="module")
def end_to_end(measure: Measure) -> dict[str, Any]:
    return measure("end-to-end", *SMALL, *STEP[:-2], "--workers", 0)


def consistent(found: dict[str, Any]) -> None:
    """Check that a summary is that of its own values."""
    assert found["lowest"] <= found["median"] <= found["highest"]
    assert found["lowest"] == min(found["values"])
    assert found["highest"] == max(found["values"])
    assert found["median"] == pytest.approx(sum(found["values"]) / 2)  # of two


def quotients(above: dict[str, Any], below: dict[str, Any]) -> list[float]:
    return [a / b for a, b in zip(above["values"], below["values"], strict=True)]


def test_a_file_says_what_was_measured_and_where(step: dict[str, Any]) -> None:
    assert step["benchmark"] == "step"
    assert step["command"].startswith("python tools/benchmark.py step --size 32")
    assert step["environment"]["versions"]["torch"]
    (result,) = step["results"]
    named = {"arch": "resnet18", "size": 32, "batch": 4, "queue": 64, "steps": 1, "repeats": 2, "precision": "fp32"}
    assert named.items() <= result["setup"].items()


def test_ratios_of_steps_are_of_the_same_round(step: dict[str, Any]) -> None:
    (result,) = step["results"]
    seconds = {name: one["seconds"] for name, one in result["contenders"].items()}
    assert list(seconds) == ["floor", "published", "ours"]
    for summary in [*seconds.values(), *result["ratios"].values()]:
        consistent(summary)
    for name in ("published / ours", "ours / floor"):
        above, below = name.split(" / ")
        assert result["ratios"][name]["values"] == pytest.approx(quotients(seconds[above], seconds[below]))
    for name, one in result["contenders"].items():
        assert one["images_per_second"] == pytest.approx(4 / one["seconds"]["median"])
        assert one["threads"] == 1
        if name != "floor":
            bare = quotients(seconds["floor"], one["seconds"])
            assert one["beyond_floor"]["values"] == pytest.approx([1 - share for share in bare])


def test_the_parts_of_a_step_are_all_of_it(step: dict[str, Any]) -> None:
    """Each candidate's code names the parts that it has; what has no name is little."""
    (result,) = step["results"]
    for name, parts in {"floor": ENCODERS, "published": PUBLISHED, "ours": OURS}.items():
        shares = result["contenders"][name]["shares"]
        assert set(shares) == parts | {"rest"}
        assert sum(shares.values()) == pytest.approx(1)
        assert all(0 < share < 1 for share in shares.values())
        assert shares["rest"] < 0.3
        if name != "floor":
            beyond = sum(share for part, share in shares.items() if part not in ENCODERS)
            assert result["contenders"][name]["beyond_encoders"] == pytest.approx(beyond)


def test_the_published_step_copies_more_and_talks_more(step: dict[str, Any]) -> None:
    (result,) = step["results"]
    said = {name: [word["operation"] for word in one["collectives"]] for name, one in result["contenders"].items()}
    assert said["ours"] == said["floor"] == []  # one process has nobody to talk to
    assert {"broadcast", "all_gather", "all_reduce"} == set(said["published"])  # but the published code does
    assert all(one["bytes_sent"] == 0 for one in result["contenders"].values())
    assert all(one["peak_memory_bytes"] > 10e6 for one in result["contenders"].values())  # weights of 45 MB


@pytest.mark.slow
def test_two_processes_report_what_they_send(measure: Measure, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forked ones; test_interleave.py starts real ones."""
    monkeypatch.setattr(interleave, "_lead", forked_ranks.lead)
    (result,) = measure("step", *SMALL, *STEP, "--processes", 2)["results"]
    one = result["contenders"]["ours"]
    images, keys = 4 * 3 * 32 * 32 * 4, 4 * 128 * 4
    assert [(word["operation"], word["payload"]) for word in one["collectives"][:2]] == [
        ("all_to_all", images),
        ("all_gather", keys),
    ]
    gradients = [word["payload"] for word in one["collectives"][2:]]
    assert one["bytes_sent"] == images / 2 + keys + sum(gradients)
    published = result["contenders"]["published"]["collectives"]
    assert sum(word["payload"] for word in published if word["operation"] == "all_reduce") == sum(gradients)
    queue = 64 * 128 * 4
    assert max(word["payload"] for word in published if word["operation"] == "broadcast") >= queue
    assert one["images_per_second"] == pytest.approx(8 / one["seconds"]["median"])


def test_the_input_is_timed_by_each_pipeline(measure: Measure) -> None:
    (result,) = measure("input", "--size", 32, "--batch", 4, "--number", 6, "--repeats", 2)["results"]
    assert list(result["contenders"]) == ["published", "ours, published", "ours, fast", "ours, device"]
    assert result["setup"]["images"].startswith("6 JPEGs of 500 x 375 pixels made from a seed")
    published = result["contenders"]["published"]["seconds"]
    for one in result["contenders"].values():
        consistent(one["seconds"])
        assert one["images_per_second"] == pytest.approx(1 / one["seconds"]["median"])
        assert one["published / this"]["values"] == pytest.approx(quotients(published, one["seconds"]))


def test_a_training_from_end_to_end_waits_and_trains(end_to_end: dict[str, Any]) -> None:
    (result,) = end_to_end["results"]
    for name, one in result["contenders"].items():
        parts = {"wait for data", "rest"} | (PUBLISHED if name == "published" else OURS | {"augment"})
        assert set(one["shares"]) == parts, name
        assert sum(one["shares"].values()) == pytest.approx(1)
        assert all(0 < share < 1 for share in one["waiting"]["values"])
        assert one["images_per_second"] == pytest.approx(4 / one["seconds"]["median"])
        assert one["cores_needed"] == pytest.approx(one["step_alone_images_per_second"] / one["core_images_per_second"])
    assert list(result["contenders"]) == ["published", "ours, published", "ours, fast", "ours, device"]


def test_a_users_mistakes_are_reported(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text("mine")
    assert f"--json: {path}: exists already" in refusal(benchmark.main, "step", "--json", path)
    assert path.read_text() == "mine"
    said = refusal(benchmark.main, "step", "--batch", 0, "--steps", -1, "--threads", -1)
    assert all(text in said for text in ("--batch: 0 must be at least 1", "--steps: -1", "--threads: -1"))
    said = refusal(benchmark.main, "step", "--queue", 100, "--batch", 8, "--processes", 2)
    assert "--queue: 100 is not a multiple of the global batch, 8 x 2" in said
    said = refusal(benchmark.main, "step", "--queue", 64, "--kernels", "cuda_graph")
    assert "--kernels: cuda_graph is for a GPU, and --device is cpu" in said
    assert "0 must be at least 1" in refusal(benchmark.main, "shuffle", "--worlds", 2, 0)
    assert f"{tmp_path / 'none'}" in refusal(benchmark.main, "input", "--images", tmp_path / "none")
    assert "asks for GPU 99" in refusal(benchmark.main, "step", "--device", "cuda:99")


def test_the_examples_of_the_help_parse() -> None:
    kinds = {name: kind.setup for name, kind in benchmark.BENCHMARKS.items()}
    parser = arguments.make_parser("", benchmark.EXAMPLES, kinds)
    commands = [line.split()[2:] for line in benchmark.EXAMPLES.splitlines() if line.startswith("  python tools/")]
    assert {words[0] for words in commands} == set(kinds)
    for words in commands:
        parsed = parser.parse_args(words)
        assert arguments.make_setups(kinds[parsed.benchmark], parsed)
