"""transfer/run/resume.py: the run that lies in a folder, and the one that is asked for."""

import dataclasses
import json
from pathlib import Path

import pytest
from fvcore.common.config import CfgNode

from transfer.results import Init
from transfer.run import resume

CONFIG = CfgNode({"SEED": 3})
OURS = Init("file", "MoCo v2", "moco.pth", "a" * 64)


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """The folder of a run that has begun from OURS with seed 3."""
    (tmp_path / "env.json").write_text(json.dumps({"seed": 3, "init": dataclasses.asdict(OURS)}))
    return tmp_path


def test_the_same_run_has_no_difference(begun: Path) -> None:
    assert resume.recorded_seed(begun) == 3
    moved = dataclasses.replace(OURS, path="elsewhere/moco.pth")
    assert resume.differences(begun, CONFIG, "torchvision", moved) == []


def test_another_file_of_the_same_label_is_another_init(begun: Path) -> None:
    other = dataclasses.replace(OURS, sha256="b" * 64)
    (message,) = resume.differences(begun, CONFIG, "torchvision", other)
    assert "its init is MoCo v2 (aaaaaaaa), this command's MoCo v2 (bbbbbbbb)" in message


def test_every_difference_has_a_message_of_its_own(begun: Path) -> None:
    found = resume.differences(begun, CfgNode({"SEED": 4}), "torchvision", Init("random", "random"))
    assert [message.split(": its ")[1].split(" is ")[0] for message in found] == ["seed", "init"]
    assert all(message.startswith(f"{begun}/env.json: ") for message in found)
