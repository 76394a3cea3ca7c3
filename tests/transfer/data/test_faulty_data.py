"""Faulty data in a whole run: training and evaluation read them by the same rules, and the result records which."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import finetune
from tests.conftest import ROOT, Tool
from tests.support.in_process import refusal
from tests.support.transfer.layouts import SIZE, make_voc, voc_object
from transfer import results
from transfer.data import catalog
from transfer.errors import TransferError
from transfer.evaluation import evaluator
from transfer.predictions import Detections
from transfer.report import tables
from transfer.run.execute import execute
from transfer.run.options import RunOptions
from transfer.run.plan import plan_run

CONFIG = ROOT / "configs/transfer/coco_r18_fpn_cpu.yaml"
TINY = [
    "SOLVER.MAX_ITER", "1", "SOLVER.STEPS", "[1]", "SOLVER.IMS_PER_BATCH", "2", "INPUT.MIN_SIZE_TRAIN", "[64]",
    "INPUT.MIN_SIZE_TEST", "64", "MODEL.RPN.POST_NMS_TOPK_TEST", "20", "TEST.PRECISE_BN.ENABLED", "False",
    "MODEL.MASK_ON", "False",
]  # fmt: skip
RULES = {"outside": "clip", "zero_area": "drop"}


def seen(records: list[dict[str, Any]]) -> list[Detections]:
    """The objects that training has of each image, as detections."""
    found = []
    for record in records:
        boxes = torch.tensor([item["bbox"] for item in record["annotations"]], dtype=torch.float32)
        classes = torch.tensor([item["category_id"] for item in record["annotations"]])
        found.append(Detections(boxes.reshape(-1, 4), torch.ones(len(classes)), classes))
    return found


@pytest.fixture
def faulty(scenes: Path, tmp_path: Path) -> Path:
    """The scenes with a point and a box beyond its image among their objects, in both parts."""
    root = tmp_path / "faulty"
    (root / "annotations").mkdir(parents=True)
    for split in ("train", "val"):
        (root / f"{split}2017").symlink_to(scenes / f"{split}2017")
        content = json.loads((scenes / f"annotations/instances_{split}2017.json").read_text())
        first, second = content["annotations"][:2]
        first["bbox"] = [first["bbox"][0], first["bbox"][1], 0, 0]
        second["bbox"] = [second["bbox"][0], second["bbox"][1], 10_000, second["bbox"][3]]
        (root / f"annotations/instances_{split}2017.json").write_text(json.dumps(content))
    return root


@pytest.mark.parametrize(("rules", "whole"), [({}, False), ({"zero_area": "drop"}, True)])
def test_a_dropped_object_is_in_neither_training_nor_truth(tmp_path: Path, rules: dict[str, str], whole: bool) -> None:
    """A point, kept, counts against a detector that training never showed it to."""
    make_voc(tmp_path / "VOC2012", {"a": SIZE + voc_object("cat") + voc_object("cat", (5, 5, 5, 5))})
    dataset = catalog.load_dataset(["voc_2012_trainval"], tmp_path, ["cat"], rules)
    assert dataset.faults == {f"zero_area={rules.get('zero_area', 'keep')}": 1}
    scorer = evaluator.Scorer(dataset, masks=False, folder=tmp_path / "scores")
    ap = scorer(seen).metrics["bbox"]["AP"]
    assert ap == pytest.approx(100 if whole else 50)


def test_coco_data_are_read_by_the_rules(faulty: Path, tmp_path: Path) -> None:
    with pytest.raises(TransferError, match=r"annotations\[1\] .* reaches beyond the image"):
        catalog.load_dataset(["coco_2017_val"], faulty)
    dataset = catalog.load_dataset(["coco_2017_val"], faulty, rules=RULES)
    assert dataset.faults == {"zero_area=drop": 1, "outside=clip": 1}
    scorer = evaluator.Scorer(dataset, masks=False, folder=tmp_path / "scores")
    assert scorer(seen).metrics["bbox"]["AP"] == pytest.approx(100)


def test_the_result_tells_the_rules_and_what_they_settled(faulty: Path, tmp_path: Path) -> None:
    options = RunOptions(
        CONFIG, (*TINY, "OUTPUT_DIR", str(tmp_path / "run")), engine="torchvision", dataset_root=faulty,
        data_rules=RULES, init="random", seed=0,
    )  # fmt: skip
    result = results.read_result(execute(plan_run(options)))
    assert result.task.data_rules == RULES
    applied = {"zero_area=drop": 1, "outside=clip": 1}
    assert result.task.data_faults == {"train": applied, "test": applied}
    assert tables.experiment(result)["rules for faulty data"] == (("outside", "clip"), ("zero_area", "drop"))


def test_finetune_takes_the_rules(faulty: Path, tool: Tool, tmp_path: Path) -> None:
    arguments = ["--config-file", CONFIG, "--dataset-root", faulty, "--engine", "torchvision", "--init", "random"]
    arguments += ["--dry-run", "OUTPUT_DIR", tmp_path / "out", *TINY]
    said = refusal(finetune.main, *arguments)
    assert "annotations[1]" in said
    assert "or: --data-rule outside=clip|drop|keep" in said
    assert "the rule for outside is one of" in refusal(finetune.main, *arguments, "--data-rule", "outside=cut")
    rules = [part for kind, rule in RULES.items() for part in ("--data-rule", f"{kind}={rule}")]
    done = tool("finetune", *arguments, *rules)
    assert done.returncode == 0, done.stderr
    assert "1 boxes reach beyond their image: clipped" in done.stderr
