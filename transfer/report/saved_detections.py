"""What a finished run left of its evaluation: its detections, and the test set that they are of."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transfer.data import catalog
from transfer.data.catalog import Dataset
from transfer.data.values import are_numbers, is_id, is_number
from transfer.errors import TransferError
from transfer.faults import refuse
from transfer.results import Task

FOLDER, ROWS, IMAGES = "inference", "coco_instances_results.json", "images.json"  # in a run's folder


def read_test_set(task: Task, run_folder: Path) -> Dataset:
    """The test set, looked for where the run read its images: nothing but their paths tells where that was.

    Raises:
        TransferError: the paths are gone, or the data there are no longer those.
    """
    path = run_folder / FOLDER / IMAGES
    paths = _read_json(path)
    if not isinstance(paths, dict) or not paths:
        raise TransferError(f"{path}: names no image")
    above = 2 if task.kind == "voc" else 1  # ROOT/VOC2007/JPEGImages/x.jpg and ROOT/val2017/x.jpg
    parents = Path(str(next(iter(paths.values())))).parents
    if len(parents) <= above:
        raise TransferError(f"{path}: {next(iter(paths.values()))!r} lies in no data set")
    return catalog.load(task.test, parents[above], task.class_names, task.data_rules)


def read_rows(run_folder: Path, dataset: Dataset) -> list[dict[str, Any]]:
    """The rows of a run's results file (detections.coco_rows), each looked at.

    Raises:
        TransferError: there is no such file, or rows that are no detections in this data set.
    """
    path = run_folder / FOLDER / ROWS
    rows = _read_json(path)
    if not isinstance(rows, list):
        raise TransferError(f"{path}: a list of detections is expected")
    images = {record["image_id"] for record in dataset.records}
    categories = set(dataset.category_ids)
    refuse(
        [
            f"{path}[{i}]: no detection in this data set"
            for i, row in enumerate(rows)
            if not _fits(row, images, categories)
        ]
    )
    return rows


def by_image(rows: Sequence[dict[str, Any]], dataset: Dataset) -> list[list[dict[str, Any]]]:
    """The rows of each image of the data set, in descending order of score."""
    found: dict[Any, list[dict[str, Any]]] = {record["image_id"]: [] for record in dataset.records}
    for row in rows:
        found[row["image_id"]].append(row)
    return [sorted(of_image, key=lambda row: -row["score"]) for of_image in found.values()]


def _fits(row: Any, images: set[Any], categories: set[int]) -> bool:
    return (
        isinstance(row, Mapping)
        and isinstance(row.get("image_id"), (int, str))
        and row["image_id"] in images
        and is_id(row.get("category_id"))
        and row["category_id"] in categories
        and is_number(row.get("score"))
        and are_numbers(row.get("bbox"), 4)
        and min(row["bbox"][2:]) >= 0
    )


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TransferError(f"{path}: cannot be read: {error}") from error
