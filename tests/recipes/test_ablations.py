"""The published ablations: a config differs from its base in what its name says, says what is published, and runs."""

import json
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from pretrain import train
from pretrain.checkpoints import moco_file
from pretrain.config import config_io
from pretrain.runtime import files
from tests.support.pretrain.narrow import narrow_resnet18
from tests.support.tiers import slow_but

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDER = ROOT / "configs" / "pretrain" / "ablations"
BASE = ROOT / "configs" / "pretrain" / "moco_v1_r50_200ep.yaml"

# Linear top-1 of figure 3 and of the table of momentum, by name of the config (65536 keys in a queue are the base).
PUBLISHED = {
    "queue": {256: 54.7, 512: 56.4, 1024: 57.5, 4096: 59.0, 16384: 60.4},
    "momentum": {"0": "fails", "0.9": 55.2, "0.99": 57.8, "0.999": 59.0, "0.9999": 58.9},
    "end_to_end": {256: 54.9, 512: 56.3, 1024: 57.3},
    "memory_bank": {256: 50.0, 512: 52.0, 1024: 54.1, 4096: 56.5, 16384: 57.8, 65536: 58.0},
    "no": {"shuffle": "99.9"},
}
NAMES = [f"{kind}_{value}" for kind, values in PUBLISHED.items() for value in values]

SMALL = {
    "model.arch": "resnet18",
    "model.dim": 16,
    "model.bn_groups": 2,
    "data.image_size": 32,
    "data.workers": 0,
    "optim.batch_size": 8,
    "optim.epochs": 2,
    "checkpoint_period": 2,
    "log_period": 1,
    "device": "cpu",
}


@pytest.fixture(scope="module", autouse=True)
def narrow() -> Iterator[None]:
    """Runs of this module are those of a narrow network."""
    with narrow_resnet18():
        yield


def differences(name: str) -> dict[str, Any]:
    """What the config changes of its base."""
    found, base = (config_io.flat(config_io.load(path, ["data.root", "x"])) for path in (FOLDER / f"{name}.yaml", BASE))
    return {key: value for key, value in found.items() if value != base[key]}


def expected_differences(name: str) -> dict[str, Any]:
    kind, value = name.rsplit("_", 1)
    changes: dict[str, Any] = {"output_dir": f"output/ablations/{name}"}
    if name == "no_shuffle":
        return changes | {"model.bn_shuffle": False}
    if kind == "momentum":
        return changes | {"model.queue_size": 4096} | ({"model.momentum": float(value)} if value != "0.999" else {})
    changes |= {"model.queue_size": int(value)} if value != "65536" else {}
    if kind == "end_to_end":  # the learning rate grows with the batch
        changes |= {"optim.batch_size": int(value), "optim.lr": 0.03 * int(value) / 256} if value != "256" else {}
    return changes | ({"model.mechanism": kind} if kind != "queue" else {})


def test_every_published_ablation_has_a_config() -> None:
    assert sorted(NAMES) == sorted(path.stem for path in FOLDER.glob("*"))


@pytest.mark.parametrize("name", NAMES)
def test_a_config_differs_from_its_base_in_what_its_name_says(name: str) -> None:
    assert differences(name) == expected_differences(name)


@pytest.mark.parametrize("name", NAMES)
def test_a_config_says_how_it_is_run_and_what_is_published(name: str) -> None:
    head = (FOLDER / f"{name}.yaml").read_text().split("_BASE_")[0]
    kind, value = name.rsplit("_", 1)
    published = {str(key): str(accuracy) for key, accuracy in PUBLISHED[kind].items()}[value]
    assert published in head
    assert f"configs/pretrain/ablations/{name}.yaml" in head
    assert f"output_dir output/ablations/{name}" in head
    page = (ROOT / "docs" / "reference" / "ablations.md").read_text()
    assert f"[{published}](../../configs/pretrain/ablations/{name}.yaml)" in page


TOUCHED = ["queue_256", "momentum_0.9", "end_to_end_256", "memory_bank_256", "no_shuffle"]


@pytest.mark.parametrize("name", slow_but(TOUCHED, NAMES))
def test_a_config_runs_cut_to_size(name: str, pictures: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """Two steps of the method that it names, with a dictionary of the size that it names."""
    folder = tmp_path / "run"
    changes = [str(part) for pair in SMALL.items() for part in pair]
    settings = config_io.load(
        FOLDER / f"{name}.yaml", [*changes, "data.root", str(pictures), "output_dir", str(folder)]
    )
    train.run(settings)
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [1, 2]
    state = files.load_tensors(folder / moco_file.file_name(1))["state_dict"]
    sides = {key.split(".")[1] for key in state}
    if settings.model.mechanism == "moco":
        assert sides == {"encoder_q", "encoder_k", "queue", "queue_ptr"}
        assert state["module.queue"].shape == (16, settings.model.queue_size)
        assert int(state["module.queue_ptr"]) == 16 % settings.model.queue_size
    elif settings.model.mechanism == "memory_bank":
        assert sides == {"encoder_q", "bank"}
        assert state["module.bank"].shape == (9, 16)
    else:
        assert sides == {"encoder_q"}
    shutil.rmtree(folder)  # a ResNet-18 with its optimiser for each config would fill the disk
