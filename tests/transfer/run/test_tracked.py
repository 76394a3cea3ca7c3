"""A fine-tuning run that is logged to W&B: every number of metrics.json arrives, and only training is logged."""

import json
from pathlib import Path

import pytest

from pretrain.runtime.errors import UserError
from tests.conftest import ROOT
from tests.support.pretrain import wandb_files
from tests.support.waiting import wait_until
from transfer.errors import TransferError
from transfer.run.execute import execute
from transfer.run.options import RunOptions
from transfer.run.plan import plan_run

CONFIG = ROOT / "configs/transfer/coco_r18_fpn_cpu.yaml"
TINY = (
    *("SOLVER.MAX_ITER", "2", "SOLVER.STEPS", "[1]", "SOLVER.IMS_PER_BATCH", "2", "INPUT.MIN_SIZE_TRAIN", "[64]"),
    *("INPUT.MIN_SIZE_TEST", "64", "MODEL.RPN.POST_NMS_TOPK_TEST", "20", "TEST.PRECISE_BN.NUM_ITER", "1"),
)


@pytest.mark.filterwarnings("ignore::Warning")  # of wandb
def test_every_number_of_a_run_reaches_wandb(scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    output = tmp_path / "run"
    words = (*TINY, "OUTPUT_DIR", str(output))
    execute(
        plan_run(
            RunOptions(CONFIG, words, engine="torchvision", dataset_root=scenes, init="random", seed=0, wandb="photos")
        )
    )
    written = [json.loads(line) for line in (output / "metrics.json").read_text().splitlines()]
    wanted = [{k: v for k, v in row.items() if k != "iteration" and v is not None} for row in written]
    wait_until(lambda: len(wandb_files.rows(output)) == len(wanted), "W&B has written every row")
    found = wandb_files.rows(output)
    assert [row["step"] for row in found] == [row["iteration"] for row in written]
    assert [{key: row[key] for key in row if key != "step" and key[0] != "_"} for row in found] == wanted
    assert any("bbox/AP" in row for row in wanted)


def test_a_missing_library_is_said_before_the_data_are_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"MLflow is not installed here; install it \(pip install mlflow\)"):
        plan_run(RunOptions(CONFIG, (), dataset_root=tmp_path / "none", mlflow="photos"))


def test_a_run_that_only_evaluates_is_not_logged() -> None:
    with pytest.raises(TransferError, match="--wandb photos: --eval-only trains nothing"):
        RunOptions(CONFIG, eval_only=True, wandb="photos")
