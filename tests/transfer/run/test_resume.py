"""transfer/run/resume.py: the run that lies in a folder, and the one that is asked for."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.transfer import small_models
from transfer.config import resolve
from transfer.engines import torchvision
from transfer.results import Init
from transfer.run import provenance, resume
from transfer.run.data_record import DataRecord, Records

OURS = Init("file", "MoCo v2", "moco.pth", "a" * 64)
DATA: Records = {"train": DataRecord(("apple",), {}, (("1.jpg", "ab"),), {})}
CONFIG = resolve.with_settings(torchvision.load_config(None, small_models.overrides(small_models.FPN)), {"SEED": 3})


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """The folder of a run that has begun from OURS with seed 3."""
    provenance.write_provenance(tmp_path, CONFIG, ["x"], "torchvision", OURS, DATA)
    return tmp_path


def differences(begun: Path, settings: dict[str, Any], engine: str = "torchvision", **more: Any) -> list[str]:
    config = resolve.with_settings(CONFIG, settings)
    found = resume.differences(begun, config, engine, more.get("init", OURS), more.get("data", DATA))
    assert all(message.startswith(f"{begun}/env.json: ") for message in found)
    return [message.removeprefix(f"{begun}/env.json: ") for message in found]


def test_the_same_run_has_no_difference(begun: Path) -> None:
    assert resume.recorded_seed(begun) == 3
    assert differences(begun, {}, init=dataclasses.replace(OURS, path="elsewhere/moco.pth")) == []


def test_settings_of_machine_and_watching_are_free(begun: Path) -> None:
    free = {
        **{"OUTPUT_DIR": "elsewhere", "DATALOADER.NUM_WORKERS": 7, "SOLVER.CHECKPOINT_PERIOD": 9},
        **{"TEST.EVAL_PERIOD": 5, "VIS_PERIOD": 3, "MODEL.DEVICE": "cuda", "CUDNN_BENCHMARK": True},
    }
    assert free.keys() <= resume.FREE
    assert differences(begun, free) == []


def test_another_kind_of_machine_is_noticed_and_no_difference(begun: Path) -> None:
    assert provenance.other_machine(begun, CONFIG) is None
    record = json.loads((begun / "env.json").read_text())
    record["machine"]["gpu"] = "NVIDIA A100"
    (begun / "env.json").write_text(json.dumps(record))
    assert "another kind of machine than before (gpu NVIDIA A100, now None)" in str(
        provenance.other_machine(begun, CONFIG)
    )
    assert differences(begun, {}) == []


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("SOLVER.BASE_LR", 0.02, "SOLVER.BASE_LR: begun with 0.01, now 0.02"),
        ("SOLVER.WEIGHT_DECAY", 0.5, "SOLVER.WEIGHT_DECAY: begun with 0.0001, now 0.5"),
        ("SOLVER.MAX_ITER", 9, "SOLVER.MAX_ITER: begun with 40000, now 9"),
        ("SOLVER.STEPS", (1,), "SOLVER.STEPS: begun with [], now [1]"),
        ("INPUT.MIN_SIZE_TEST", 5, "INPUT.MIN_SIZE_TEST: begun with 0, now 5"),
        ("SOLVER.REFERENCE_WORLD_SIZE", 4, "SOLVER.REFERENCE_WORLD_SIZE (--scale-to): begun with 0, now 4"),
        ("SEED", 4, "seed: begun with 3, now 4"),
    ],
)
def test_any_other_setting_is_named_with_both_values(begun: Path, key: str, value: Any, words: str) -> None:
    assert differences(begun, {key: value}) == [words]


def test_every_difference_has_a_message_of_its_own(begun: Path) -> None:
    data = {"train": dataclasses.replace(DATA["train"], class_names=("pear",))}
    found = differences(begun, {"SEED": 4, "SOLVER.GAMMA": 0.5}, "detectron2", init=Init("random", "random"), data=data)
    assert [message.split(": begun with")[0] for message in found] == [
        *("seed", "engine", "init", "SOLVER.GAMMA", "the classes of the training data"),
    ]


def test_another_file_of_the_same_label_is_another_init(begun: Path) -> None:
    found = differences(begun, {}, init=dataclasses.replace(OURS, sha256="b" * 64))
    assert found == ["init: begun with MoCo v2 (aaaaaaaa), now MoCo v2 (bbbbbbbb)"]


def test_an_evaluation_compares_no_seed_and_no_init(begun: Path) -> None:
    found = resume.differences(begun, resolve.with_settings(CONFIG, {"SEED": 4}), "torchvision", None, DATA)
    assert found == []


def test_a_run_of_an_older_version_goes_on_with_a_warning(begun: Path, caplog: pytest.LogCaptureFixture) -> None:
    (begun / "data.json").unlink()
    record = json.loads((begun / "env.json").read_text())
    del record["engine"]
    (begun / "env.json").write_text(json.dumps(record))
    assert differences(begun, {}) == []
    (warning,) = [line.getMessage() for line in caplog.records]
    assert "no data.json, the run was begun by an older version" in warning
    assert differences(begun, {"SOLVER.GAMMA": 0.5}) == ["SOLVER.GAMMA: begun with 0.1, now 0.5"]


def test_a_setting_that_the_run_began_without_is_its_default(begun: Path) -> None:
    """The run is one of an older version, whose config.yaml does not name it; and names one that is gone."""
    before = yaml.safe_load((begun / "config.yaml").read_text())
    del before["FLOAT32_PRECISION"], before["SOLVER"]["CLIP_GRADIENTS"]
    before["FORGOTTEN"] = 5
    (begun / "config.yaml").write_text(yaml.safe_dump(before))
    assert differences(begun, {}) == []
    found = differences(begun, {"SOLVER.CLIP_GRADIENTS.ENABLED": True})
    assert found == ["SOLVER.CLIP_GRADIENTS.ENABLED: begun with False, now True"]
