"""Run folders as tools/finetune.py leaves them, made up: for tests of the report."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from transfer import datasets, results
from transfer.results import Device, Engine, Init, Points, Result, Task

STARTS = {
    "random": Init("random", "random"),
    "supervised": Init("supervised", "supervised", "resnet18.pth", "ab" * 32, "resnet18", {}),
    "MoCo": Init("file", "MoCo", "moco.pth", "cd" * 32, "resnet18", {"epoch": 199}),
}


def make_result(kind: str, start: str, seed: int, ap: float, **changes: Any) -> Result:
    """A result whose box AP is `ap`; `changes` replace fields, `task` is a dict of its own fields to replace."""
    names = ("circle", "cross", "square", "star", "triangle")
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


def make_run(folder: Path, result: Result, scenes: Path | None = None) -> Path:
    """Write a run folder for `result`; with `scenes` (a data set root) also the detections of its test images."""
    folder.mkdir(parents=True)
    (folder / "env.json").write_text(json.dumps({"init": {}}))
    results.write(folder / "result.json", result)
    rng = np.random.default_rng(result.seed)
    ap = result.metrics["bbox"]["AP"] or 0.0
    lines = []
    for step in range(5, 101, 5):
        lines.append({"iteration": step, "total_loss": 0.4 + math.exp(-step / 30) + rng.normal(0, 0.05), "lr": 0.01})
        if step % 25 == 0:
            lines.append({"iteration": step} | {f"{k}/AP": ap * step / 100 for k in result.metrics})
    (folder / "metrics.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if scenes is not None:
        _write_detections(folder / "inference", result.task, scenes, rng)
    return folder


def _write_detections(folder: Path, task: Task, scenes: Path, rng: np.random.Generator) -> None:
    """The annotated boxes, shaken, each with a score."""
    dataset = datasets.load(task.test, scenes, task.class_names)
    rows = []
    for record in dataset.records:
        for item in record["annotations"]:
            x0, y0, x1, y1 = (np.asarray(item["bbox"]) + rng.normal(0, 3, 4)).tolist()
            row = {"image_id": record["image_id"], "category_id": dataset.category_ids[item["category_id"]]}
            rows.append(row | {"bbox": [x0, y0, x1 - x0, y1 - y0], "score": float(rng.uniform(0.2, 1))})
    folder.mkdir()
    (folder / "coco_instances_results.json").write_text(json.dumps(rows))
    images = {str(record["image_id"]): record["file_name"] for record in dataset.records}
    (folder / "images.json").write_text(json.dumps(images))
