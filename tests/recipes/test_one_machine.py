"""The configurations for one machine: what the rules give, their headers' numbers, a plan without a notice."""

import re
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from pretrain import train
from pretrain.config import config_io
from pretrain.config.machine import named_machine
from pretrain.config.notices import unusual_settings
from pretrain.config.rules import FEW_IMAGES
from pretrain.config.suggestion import Suggestion, suggest
from tests.support.tiers import slow_but

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "configs" / "pretrain"
# The images and the GPU's GB that each is for, and what its header adds on the command line for it.
SMALLER_GPU = ("optim.accumulate", "2", "model.bn_groups", "4", "optim.precision", "fp16")
RECIPES: list[tuple[str, int, str, tuple[str, ...]]] = [
    *((f"gpu1_{gb}gb", 1281167, gb, ()) for gb in ("11", "24", "80")),
    *((f"{name}_images", images, "24", ()) for name, images in (("1k", 1000), ("10k", 10_000), ("100k", 100_000))),
    ("1k_images", 1000, "11", ("optim.precision", "fp16")),
    ("10k_images", 10_000, "11", SMALLER_GPU),
    ("100k_images", 100_000, "11", SMALLER_GPU),
]


def path(name: str) -> Path:
    return FOLDER / f"moco_v2_r50_{name}.yaml"


def suggested(images: int, gb: str) -> Suggestion:
    return suggest(images, None, named_machine(gb), {})


@pytest.mark.parametrize(("name", "images", "gb", "added"), RECIPES)
def test_a_recipe_is_what_the_rules_give(name: str, images: int, gb: str, added: tuple[str, ...]) -> None:
    found = config_io.flat(config_io.load(path(name), ["data.root", "x", *added]))
    expected = {choice.key: choice.value for choice in suggested(images, gb).choices}
    assert {key: found[key] for key in expected} == expected


@pytest.mark.parametrize(("name", "images", "gb", "added"), RECIPES)
def test_a_recipe_trains_without_a_notice(name: str, images: int, gb: str, added: tuple[str, ...]) -> None:
    settings = config_io.load(path(name), ["data.root", "x", *added])
    assert unusual_settings(settings, torch.device("cuda"), images) == []
    assert (settings.model.bn_shuffle, settings.model.bn_sync_ranks) == (True, 1)
    assert settings.model.bn_groups > 1


@pytest.mark.parametrize("recipe", slow_but([each for each in RECIPES if each[1] <= 10_000], RECIPES))
def test_the_plan_of_a_recipe_fits_its_images(
    recipe: tuple[str, int, str, tuple[str, ...]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, images, _, added = recipe
    picture, names = tmp_path / "a.png", tmp_path / "images.txt"
    Image.new("RGB", (300, 300)).save(picture)
    names.write_text("a.png\n" * images)
    words = ["data.root", str(names), "output_dir", str(tmp_path / "run"), "device", "cpu", *added]
    train.run(config_io.load(path(name), words), dry_run=True)
    _, _, plan = capsys.readouterr().out.partition("\nimages  ")
    assert f"{images} in {names}" in plan
    assert "shuffle-BN   on" in plan
    notices = plan.partition("\noutput ")[2].splitlines()[1:]
    assert all("fp16 on a CPU" in notice for notice in notices)


@pytest.mark.parametrize(("name", "images", "gb", "added"), RECIPES)
def test_a_header_has_its_command_and_the_estimates(name: str, images: int, gb: str, added: tuple[str, ...]) -> None:
    header = path(name).read_text().split("_BASE_")[0]
    command = f"python tools/train_moco.py --config-file configs/pretrain/{path(name).name} data.root IMAGES"
    assert command in header.replace(" \\\n#      ", "")
    assert " ".join(added) in header
    if gb in name or gb == "24":
        _, hours, *_, memory = suggested(images, gb).expected
        assert ("model.weights FILE" in header) is (images < FEW_IMAGES)
        assert f"{memory.split(' of ')[0]} of GPU memory" in header
        assert hours.split(" hours")[0] + " hours" in header
        assert "Estimated, not measured" in header


def test_the_resources_of_one_gpu_tell_the_estimated_hours() -> None:
    text = (ROOT / "configs" / "launch" / "gpu1.yaml").read_text()
    assert "They were not measured" in text
    for name, images in (("1k", 1000), ("10k", 10_000), ("100k", 100_000), ("gpu1", 1281167)):
        (row,) = (line for line in text.splitlines() if f"moco_v2_r50_{name}" in line and "config-file" not in line)
        expected = [suggested(images, gb).expected[1].split(" hours")[0] for gb in ("11", "24", "80")]
        assert re.findall(r"[\d.]+ to [\d.]+", row) == expected
    resources = yaml.safe_load(text)
    assert resources["cpus"] == 1 + config_io.load(path("gpu1_24gb"), ["data.root", "x"]).data.workers
