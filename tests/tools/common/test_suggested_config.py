"""train_moco.py --suggest: the YAML that it prints loads, plans without a notice, and trains."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import train_moco
from common import suggested_config
from pretrain.config import config_io
from pretrain.runtime.errors import PretrainError
from tests.support.in_process import refusal
from tests.support.pretrain.narrow import narrow_resnet18


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seventy images of 40 x 60 pixels, in a folder whose name YAML must quote."""
    folder = tmp_path_factory.mktemp("pictures") / "my: images #1, ä"
    folder.mkdir()
    draw = np.random.default_rng(0)
    for number in range(70):
        Image.fromarray(draw.integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    return folder


def test_suggested_settings_load_plan_and_train_a_step(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, output = tmp_path / "suggested.yaml", tmp_path / "run"
    given = ["data.root", images, "output_dir", output, "checkpoint_steps", "1"]
    monkeypatch.setattr(sys, "argv", ["train_moco.py", "--suggest", "cpu", "--save", str(file), *map(str, given)])
    train_moco.main()
    printed = capsys.readouterr().out
    assert printed == file.read_text()
    assert f"--config-file {file}" in printed
    assert all(" # " in line for line in printed.splitlines() if ": " in line and not line.startswith("#"))
    settings = config_io.load(file)
    assert (settings.data.root, settings.data.image_size, settings.checkpoint_steps) == (str(images), 32, 1)
    assert (settings.optim.batch_size, settings.model.queue_size, settings.optim.epochs) == (8, 16, 2500)

    monkeypatch.setattr(sys, "argv", ["train_moco.py", "--config-file", str(file), "--dry-run"])
    train_moco.main()
    _, _, notices = capsys.readouterr().out.partition("\noutput       ")
    assert notices.splitlines() == [str(output)]

    one = ["--config-file", str(file), "optim.epochs", "1", "optim.precision", "fp32"]
    monkeypatch.setattr(sys, "argv", ["train_moco.py", *one])
    with narrow_resnet18():
        train_moco.main()
    rows = [json.loads(line) for line in (output / "metrics.json").read_text().splitlines()]
    assert rows[-1]["step"] == 8


def test_a_file_that_is_there_is_not_overwritten(images: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("mine")
    with pytest.raises(PretrainError, match="is there already and is not overwritten"):
        suggested_config.print_suggestion("cpu", ["data.root", str(images)], file, {})
    assert file.read_text() == "mine"


def test_what_has_no_suggestion_is_refused(images: Path, tmp_path: Path) -> None:
    root = ("data.root", images)
    said = refusal(train_moco.main, "--suggest", "24", "--resume", "--config-file", "my/a.yaml", *root)
    assert "reads no config file; leave out --config-file, --resume" in said
    assert "--save: writes what --suggest" in refusal(train_moco.main, "--save", tmp_path / "a.yaml", *root)
    assert "optim.lr: 'x' is not" in refusal(train_moco.main, "--suggest", "24", "optim.lr", "x", *root)
    said = refusal(train_moco.main, "--suggest", "24", "model.mechanism", "end_to_end", *root)
    assert "the rules are those of model.mechanism moco" in said
    two = {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "x", "MASTER_PORT": "1"}
    with pytest.raises(PretrainError, match="is for one process"):
        suggested_config.print_suggestion("cpu", [], None, two | {"LOCAL_WORLD_SIZE": "2"})
