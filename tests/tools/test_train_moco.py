"""tools/train_moco.py as a user runs it: bad input is one message and exit code 2, nothing is written."""

import concurrent.futures
import pathlib
import shutil
import sys
from collections.abc import Callable

import pytest

import train_moco
from common import cli
from fault_injection.job import differences
from pretrain.runtime import run_folder
from tests.conftest import Tool, refused
from tests.support.waiting import wait_until

SMALL = ("model.arch", "resnet18", "model.queue_size", "8", "data.image_size", "32", "optim.batch_size", "4")


@pytest.fixture
def refusal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs the tool in this process, which saves the seconds of a start; gives what it said when it exited with 2."""

    def run(*arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["tools/train_moco.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            cli.run(train_moco.main)
        assert caught.value.code == 2
        return capsys.readouterr().err

    return run


def test_all_faults_of_the_settings_come_in_one_message(tool: Tool) -> None:
    cpu = "configs/pretrain/moco_v2_r18_cpu.yaml"
    result = tool("train_moco", "--config-file", cpu, "optim.lr", "fast", "model.que", "3")
    refused(result, "3 faults", "optim.lr: 'fast'", "a number", "model.que: no such", "model.queue_size", "data.root")


def test_an_unreadable_image_stops_the_run_with_its_path(
    tool: Tool, pictures: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    shutil.copytree(pictures, tmp_path / "images")
    for path in (tmp_path / "images").iterdir():
        path.write_text("no image")
    output = tmp_path / "run"
    result = tool("train_moco", "data.root", tmp_path / "images", "output_dir", output, "data.workers", 1, *SMALL)
    refused(result, f"error: data.root: {tmp_path / 'images'}", "not an image of a known format")
    assert not (output / "last_checkpoint").exists()


@pytest.mark.parametrize(("name", "reason"), [("missing", "no such folder"), ("empty", "no images in it or below")])
def test_missing_and_empty_folders_are_named(
    name: str, reason: str, refusal: Callable[..., str], tmp_path: pathlib.Path
) -> None:
    (tmp_path / "empty").mkdir()
    said = refusal("data.root", tmp_path / name, "output_dir", tmp_path / "run", *SMALL)
    assert said.startswith(f"error: data.root: {tmp_path / name}: {reason}")
    assert not (tmp_path / "run").exists()


def test_an_option_may_follow_the_settings(
    refusal: Callable[..., str], pictures: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    said = refusal("data.root", pictures, "output_dir", tmp_path / "run", *SMALL, "--resume")
    assert f"{tmp_path / 'run'}: nothing to resume" in said


def test_a_second_start_of_a_run_is_refused_and_harms_nothing(
    tool: Tool,
    refusal: Callable[..., str],
    pictures: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = ("data.root", pictures, "data.workers", 0, "optim.epochs", 6, *SMALL, "model.dim", 8, "output_dir")
    alone = tool("train_moco", *settings, tmp_path / "alone")
    assert alone.returncode == 0, alone.stderr
    monkeypatch.setattr(run_folder, "PATIENCE", 0.0)
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        first = thread.submit(tool, "train_moco", *settings, tmp_path / "run", "--auto-resume")
        wait_until((tmp_path / "run" / run_folder.LOCK).exists, "the first has begun")
        said = refusal(*settings, tmp_path / "run", "--auto-resume")
        ended = first.result()
    assert f"{tmp_path / 'run'}: another start is using it (process " in said
    assert ended.returncode == 0, ended.stderr
    assert differences(tmp_path / "alone", tmp_path / "run", epochs=6) == []


def test_help_shows_commands_and_settings(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["tools/train_moco.py", "--help"])
    with pytest.raises(SystemExit) as caught:
        cli.run(train_moco.main)
    assert not caught.value.code
    said = capsys.readouterr().out
    assert "optim.batch_size" in said
    assert "optim.cuda_graph" in said
    assert "python tools/train_moco.py --config-file configs/pretrain/moco_v2_r18_cpu.yaml" in said
