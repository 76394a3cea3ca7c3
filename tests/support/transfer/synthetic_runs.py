"""Run folders as tools/finetune.py leaves them, made up: for tests of the report."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

from synthetic.painter import PATTERNS
from transfer import results
from transfer.data import catalog
from transfer.data.common.dataset import Dataset
from transfer.evaluation import evaluator
from transfer.predictions import Detections
from transfer.results import Device, Engine, Init, Points, Result, Task

STARTS = {
    "random": Init("random", "random"),
    "supervised": Init("supervised", "supervised", "resnet18.pth", "ab" * 32, "resnet18", {}),
    "MoCo": Init("file", "MoCo", "moco.pth", "cd" * 32, "resnet18", {"epoch": 199}),
}


def make_result(kind: str, start: str, seed: int, ap: float, **changes: Any) -> Result:
    """A result whose box AP is `ap`; `changes` replace fields, `task` is a dict of its own fields to replace."""
    names = tuple(sorted(PATTERNS))
    splits = {"voc": (("voc_2007_trainval",), ("voc_2007_test",)), "coco": (("coco_2017_train",), ("coco_2017_val",))}
    task = Task(kind, *splits[kind], f"configs/transfer/demo_{kind}.yaml", "ef" * 32, names, 4, 6)  # type: ignore[arg-type]
    box: Points = {"AP": ap, "AP50": ap * 1.8, "AP75": ap * 0.9, "APs": None}
    per_class: dict[str, Points] = {"bbox": {name: ap + place for place, name in enumerate(names)}}
    voc = {"11-point": box, "area": {**box, "AP50": ap * 1.9}} if kind == "voc" else {}
    masks: dict[str, Points] = {"segm": {"AP": ap * 0.9, "AP50": ap * 1.7, "AP75": ap * 0.8}} if kind == "coco" else {}
    result = Result(
        engine=Engine("torchvision", {"torch": "2.10.0", "torchvision": "0.25.0"}),
        task=dataclasses.replace(task, **changes.pop("task", {})),
        init=changes.pop("init", STARTS[start]),
        seed=seed,
        iterations=100,
        eval_only=False,
        metrics={"bbox": box, **masks},
        voc_metrics=voc,
        per_class=per_class,
        device=Device("cpu", "A Processor", 1, 2),
        seconds={"train": 61.0, "evaluate": 5.0},
        command=("python", "tools/finetune.py", "--seed", str(seed), "OUTPUT_DIR", "a folder/x"),
        created="2026-01-02T03:04:05+00:00",
        git="0123456789",
    )
    return dataclasses.replace(result, **changes)


def make_run(folder: Path, result: Result, root: Path | None = None) -> Path:
    """Write a run folder for `result`.

    With `root` (of a data set) it also holds detections, the better the higher the AP of `result` is, and the result
    has their real scores.
    """
    folder.mkdir(parents=True)
    (folder / "env.json").write_text(json.dumps({"init": {}}))
    rng = np.random.default_rng(result.seed)
    if root is not None:
        result = _scored(folder, result, root, rng)
    results.write_result(folder / "result.json", result)
    ap = result.metrics["bbox"]["AP"] or 0.0
    lines = []
    for step in range(5, result.iterations + 1, 5):
        lines.append({"iteration": step, "total_loss": 0.4 + math.exp(-step / 30) + rng.normal(0, 0.05), "lr": 0.01})
        if step % 25 == 0:
            lines.append({"iteration": step} | {f"{k}/AP": ap * step / 100 for k in result.metrics})
    (folder / "metrics.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def _scored(folder: Path, result: Result, root: Path, rng: np.random.Generator) -> Result:
    """`result` with the scores of made-up detections, which the evaluator itself saves and scores."""
    dataset = catalog.load_dataset(result.task.test, root, result.task.class_names)
    skill = (result.metrics["bbox"]["AP"] or 0.0) / 100
    masks = "segm" in result.metrics
    scorer = evaluator.Scorer(dataset, masks, folder / "inference")
    scores = scorer(lambda records: [detect(record, dataset, skill, masks, rng) for record in records])
    task = dataclasses.replace(result.task, test_images=len(dataset.records))
    return dataclasses.replace(
        result, task=task, metrics=scores.metrics, per_class=scores.per_class, voc_metrics=scores.voc_metrics
    )


def detect(record: dict[str, Any], dataset: Dataset, skill: float, masks: bool, rng: np.random.Generator) -> Detections:
    """A detector of this image with errors of every kind, fewer with more `skill` in [0, 1]."""
    size = np.array([record["width"], record["height"]] * 2, dtype=float)
    boxes, classes, scores = [], [], []
    for item in record["annotations"]:
        corners = np.asarray(item["bbox"])
        for place in range(1 + (rng.random() > skill)):  # duplicates
            if rng.random() < 0.5 + skill / 2:
                side = np.tile(corners[2:] - corners[:2], 2)
                boxes.append(corners + rng.normal(0, 0.3 * (1 - skill), 4) * side)
                wrong = rng.random() > skill**0.5
                classes.append(rng.integers(len(dataset.class_names)) if wrong else item["category_id"])
                scores.append(rng.beta(2 + 8 * skill, 3) * (0.7 if place or wrong else 1))
    for _ in range(rng.poisson(2 * (1 - skill))):  # in the background
        boxes.append(np.concatenate([rng.random(2) * 0.6, 0.6 + rng.random(2) * 0.4]) * size)
        classes.append(rng.integers(len(dataset.class_names)))
        scores.append(rng.beta(2, 4))
    order = np.argsort(-np.array(scores))
    found = np.array(boxes).reshape(-1, 4)[order].clip(0, size)
    found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
    filled = torch.zeros(len(found), record["height"], record["width"], dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(filled, found.astype(int), strict=True):
        mask[y0:y1, x0:x1] = True
    return Detections(
        torch.tensor(found, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(np.array(scores)[order], dtype=torch.float32),
        torch.tensor(np.array(classes, dtype=int)[order]),
        filled if masks else None,
    )
