"""A suggestion for images and a machine: stated numbers, a reason for each, and what is given kept and followed."""

from typing import Any

import pytest

from pretrain.config.machine import Machine
from pretrain.config.suggestion import Choice, Choices, suggest
from pretrain.runtime.errors import PretrainError

CPU = Machine(0, 2, "fp32")
GPU11, GPU24, GPU80 = Machine(11, 6, "fp16"), Machine(24, 6, "bf16"), Machine(80, 16, "bf16")


def values(images: int, machine: Machine, shorter_side: int | None = 400, **given: Any) -> dict[str, Any]:
    found = suggest(images, shorter_side, machine, {key.replace("__", "."): value for key, value in given.items()})
    assert all(choice.reason for choice in found.choices)
    return {choice.key: choice.value for choice in found.choices}


def test_given_values_stay_and_say_so() -> None:
    choices = Choices({"optim.batch_size": 96})
    assert choices.add("optim.batch_size", 256, "published") == 96
    assert choices.add("optim.epochs", 200, "published") == 200
    assert choices.made == [Choice("optim.batch_size", 96, "given"), Choice("optim.epochs", 200, "published")]


@pytest.mark.parametrize(
    ("machine", "parts", "groups", "precision"), [(GPU11, 2, 4, "fp16"), (GPU24, 1, 8, "bf16"), (GPU80, 1, 8, "bf16")]
)
def test_imagenet_on_one_gpu_is_the_published_recipe(machine: Machine, parts: int, groups: int, precision: str) -> None:
    found = values(1281167, machine)
    published = {
        **{"data.image_size": 224, "model.arch": "resnet50", "model.head": "mlp", "model.temperature": 0.2},
        **{"optim.batch_size": 256, "optim.lr": 0.03, "optim.epochs": 200},
        **{"model.momentum": 0.999, "model.queue_size": 65536},
    }
    assert published.items() <= found.items()
    assert (found["optim.accumulate"], found["model.bn_groups"], found["optim.precision"]) == (parts, groups, precision)
    assert found["optim.batch_size"] // found["optim.accumulate"] // found["model.bn_groups"] == 32


def test_a_cpu_gets_a_small_encoder_and_small_views() -> None:
    found = values(10_000, CPU)
    assert (found["model.arch"], found["data.image_size"], found["device"]) == ("resnet18", 64, "cpu")
    assert (found["model.bn_groups"], found["optim.precision"]) == (8, "fp32")


def test_views_are_no_larger_than_the_images() -> None:
    sides = [values(1000, GPU24, side)["data.image_size"] for side in (20, 50, 64, 223, 224, None)]
    assert sides == [32, 48, 64, 208, 224, 224]


def test_rules_follow_what_is_given() -> None:
    found = values(10_000, GPU24, optim__batch_size=64, optim__epochs=10, model__head="fc", knn__root="labelled")
    assert found["optim.lr"] == 0.0075
    assert found["model.momentum"] == 0.9  # 1,560 steps
    assert found["model.queue_size"] == 512  # 8 of the 10 steps that this averages over
    assert found["model.temperature"] == 0.07
    assert (found["optim.epochs"], found["knn.root"]) == (10, "labelled")
    assert found["optim.schedule_unit"] == "step"
    assert "optim.schedule_unit" not in values(10_000, GPU24, optim__epochs=50)
    by_epoch = values(10_000, GPU24, optim__epochs=10, optim__schedule="step", optim__milestones=[6, 8])
    assert "optim.schedule_unit" not in by_epoch
    odd = values(10_000, GPU24, optim__batch_size=100)
    assert (odd["optim.accumulate"], odd["model.bn_groups"]) == (1, 2)


def test_given_weights_are_continued_for_fewer_updates() -> None:
    """The recipe for 20,000 photos in docs/guides/pretraining.md."""
    found = values(20_000, GPU24, model__weights="moco.pth")
    assert (found["optim.epochs"], found["optim.lr"], found["optim.batch_size"]) == (65, 0.03, 256)
    assert (found["model.momentum"], found["model.queue_size"], found["model.bn_groups"]) == (0.999, 4096, 8)
    assert values(20_000, GPU24, model__weights="")["optim.epochs"] == 260


def test_only_published_epochs_are_called_published() -> None:
    """An epoch of ImageNet has 5,004 steps: of given weights one suffices, which nobody has published."""

    def reason(**given: str) -> str:
        return next(each.reason for each in suggest(1281167, None, GPU24, given).choices if each.key == "optim.epochs")

    assert reason() == "as published"
    assert reason(**{"model.weights": "moco.pth"}) == "of 5004 steps, for 5,000 updates or more"


def test_few_images_are_advised_to_begin_from_given_weights() -> None:
    def advised(images: int, **given: str) -> bool:
        return any("model.weights FILE" in line for line in suggest(images, None, GPU24, given).expected)

    assert advised(49_999)
    assert not advised(50_000)
    assert not advised(1000, **{"model.weights": "moco.pth"})


def test_memory_decides_the_parts_of_the_batch() -> None:
    parts = [values(10**6, Machine(gb, 6, "bf16"))["optim.accumulate"] for gb in (4, 6, 11, 16, 24)]
    assert parts == [8, 4, 2, 2, 1]
    assert values(10**6, GPU24, model__arch="resnet152", data__image_size=448)["optim.accumulate"] == 8


def test_what_to_expect_is_called_an_estimate() -> None:
    length, time, memory = suggest(50_000, None, GPU24, {}).expected
    assert length == "39000 updates of 256 images."
    assert "hours: not measured, but estimated from the published run" in time
    assert "GB of GPU memory: not measured" in memory
    assert len(suggest(50_000, None, CPU, {}).expected) == 2


@pytest.mark.parametrize(
    ("images", "machine", "given", "reason"),
    [
        (63, GPU24, {}, "has 63 images, and the rules begin at 64"),
        (100, GPU24, {"optim.batch_size": 128}, "128 is more than the 100 images"),
        (1000, Machine(4, 6, "fp16"), {"model.arch": "resnet152", "data.image_size": 1024}, "a part of 4 images needs"),
    ],
)
def test_what_no_rule_can_help_is_refused(images: int, machine: Machine, given: dict[str, Any], reason: str) -> None:
    with pytest.raises(PretrainError, match=reason):
        suggest(images, None, machine, given)
