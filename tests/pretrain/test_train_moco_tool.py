"""tools/train_moco.py as a user runs it: bad input is one message and exit code 2, nothing is written."""

import pathlib
import shutil

import pytest

from tests.conftest import Tool, refused

SMALL = ("model.arch", "resnet18", "model.queue_size", "8", "data.image_size", "32", "optim.batch_size", "4")


def test_all_faults_of_the_settings_come_in_one_message(tool: Tool) -> None:
    cpu = "configs/pretrain/moco_v2_r18_cpu.yaml"
    result = tool("train_moco", "--config-file", cpu, "optim.lr", "fast", "model.que", "3")
    refused(result, "3 faults", "optim.lr: 'fast'", "a number", "model.que: no such", "model.queue_size", "data.root")


def test_an_option_may_follow_the_settings(tool: Tool, pictures: pathlib.Path, tmp_path: pathlib.Path) -> None:
    result = tool("train_moco", "data.root", pictures, "output_dir", tmp_path / "run", *SMALL, "--resume")
    refused(result, f"{tmp_path / 'run'}: nothing to resume")
    assert not (tmp_path / "run").exists()


def test_an_unreadable_image_stops_the_run_with_its_path(
    tool: Tool, pictures: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    shutil.copytree(pictures, tmp_path / "images")
    for path in (tmp_path / "images").iterdir():
        path.write_text("no image")
    output = tmp_path / "run"
    result = tool("train_moco", "data.root", tmp_path / "images", "output_dir", output, "data.workers", 1, *SMALL)
    refused(result, f"error: {tmp_path / 'images'}", "not an image of a known format")
    assert not (output / "last_checkpoint").exists()


@pytest.mark.parametrize(("name", "reason"), [("missing", "no such folder"), ("empty", "no images in it or below")])
def test_missing_and_empty_folders_are_named(name: str, reason: str, tool: Tool, tmp_path: pathlib.Path) -> None:
    (tmp_path / "empty").mkdir()
    result = tool("train_moco", "data.root", tmp_path / name, "output_dir", tmp_path / "run", *SMALL)
    refused(result, f"data.root: {tmp_path / name}: {reason}")
    assert not (tmp_path / "run").exists()


def test_help_shows_commands_and_settings(tool: Tool) -> None:
    result = tool("train_moco", "--help")
    assert result.returncode == 0
    assert "optim.batch_size" in result.stdout
    assert "python tools/train_moco.py --config-file configs/pretrain/moco_v2_r18_cpu.yaml" in result.stdout
