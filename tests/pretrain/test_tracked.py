"""A pretraining run that is logged to W&B: every number of metrics.json arrives, also after a resume, in one run."""

import json
from pathlib import Path

import pytest

from pretrain import train
from pretrain.runtime.errors import UserError
from tests.support.pretrain import wandb_files
from tests.support.pretrain.trainings import settings
from tests.support.waiting import wait_until


@pytest.mark.filterwarnings("ignore::Warning")  # of wandb
def test_a_resumed_run_continues_at_wandb(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    folder, logged = tmp_path / "run", ("wandb", "photos")
    train.run(settings(pictures, folder, "optim.epochs", "1"))  # the setting may be added later
    train.run(settings(pictures, folder, "optim.epochs", "2", *logged), resume=True)
    train.run(settings(pictures, folder, "optim.epochs", "3", *logged), resume=True)
    written = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    wanted = [row for row in written if row["epoch"] > 0]
    wait_until(lambda: len(wandb_files.rows(folder)) == len(wanted), "W&B has written every row")
    found = wandb_files.rows(folder)
    assert [row["step"] for row in found] == [row["step"] for row in wanted]
    assert [row["loss"] for row in found] == [row["loss"] for row in wanted]
    assert len(set(wandb_files.run_ids(folder))) == 1
    assert "W&B: offline; `wandb sync" in (folder / "log.txt").read_text()


def test_a_missing_library_is_said_before_a_folder_is_made(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"W&B is not installed here; install it \(pip install wandb\)"):
        train.run(settings(pictures, tmp_path / "run", "wandb", "photos"))
    assert not (tmp_path / "run").exists()
