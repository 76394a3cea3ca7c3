"""The shipped configurations are listed with a sentence each, found by name in any folder, and printed to be copied."""

import subprocess
import sys
from pathlib import Path

import pytest

from launcher.stages import pipeline
from pretrain.runtime import host
from tests.conftest import ROOT
from tests.support.launched import call as launch
from transfer.config.detectron2_defaults import read_yaml

STAGES = ("pretrain", "transfer", "launch")


def call(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "tools" / "list_configs.py"), *words], cwd=folder, capture_output=True, text=True
    )


def test_each_has_a_line_and_a_name_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    lines = [line.split(maxsplit=1) for line in call(tmp_path).stdout.splitlines() if line.startswith("  ")]
    names = [name for stage in STAGES for name in host.config_names(stage) if not name.startswith("Base-")]
    assert sorted(name for name, _ in lines) == sorted(names)
    assert len(set(names)) == len(names)
    for name, sentence in lines:
        assert 10 < len(sentence) < 200, name
        assert "python" not in sentence, name


def test_a_printed_one_means_the_same_in_any_folder(tmp_path: Path) -> None:
    copy = tmp_path / "mine.yaml"
    copy.write_text(call(tmp_path, "coco_r50_fpn_2x").stdout)
    assert read_yaml(copy) == read_yaml(ROOT / "configs/transfer/coco_r50_fpn_2x.yaml")


def test_a_name_that_is_not_there_is_told_its_neighbours(tmp_path: Path) -> None:
    done = call(tmp_path, "coco_r50_fpn_1")
    assert done.returncode == 2
    assert done.stderr.startswith("error: coco_r50_fpn_1: there is no such configuration; near it: coco_r50_fpn_1x")


@pytest.mark.parametrize("name", ["pipeline_demo", "configs/launch/pipeline_demo.yaml"])
def test_a_pipeline_is_launched_by_its_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    done = launch(capsys, "pipeline", name, "--cluster", "local", "--dry-run")
    assert (done.returncode, done.stderr) == (0, "")
    assert "run folder  output/demo" in done.stdout


def test_resources_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "mine.yaml"
    file.write_text((ROOT / "configs/launch/pipeline_r50.yaml").read_text().replace("configs/launch/gpu8.yaml", "gpu8"))
    read = pipeline.read_pipeline(file, None, {})
    assert {stage.resources.gpus for stage in read.stages if stage.name.startswith("pretrain")} == {8}
