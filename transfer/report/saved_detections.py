"""The saved evaluation of a finished run: its detections, and the test set that they are of."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transfer.data import catalog
from transfer.data.common.data_files import DataFiles
from transfer.data.common.dataset import Dataset
from transfer.data.common.rle import mask_fault
from transfer.data.common.values import are_numbers, is_id, is_number
from transfer.errors import TransferError, refuse
from transfer.evaluation.evaluator import IMAGES_FILE
from transfer.evaluation.kinds import evaluation_of
from transfer.results import Task

_MOST_SUB_FOLDERS = 3  # below the folder of the images, as in train2017/camera1/x.jpg
FOLDER = "inference"  # in a run's folder
Sizes = Mapping[Any, tuple[int, int]]  # id of an image -> its height and width


def detections_file(run_folder: Path, dataset: Dataset) -> Path:
    """Return the path of a run's detections, or of its maps of classes."""
    return run_folder / FOLDER / evaluation_of(dataset.kind.name).results_file


def read_test_set(task: Task, run_folder: Path) -> Dataset:
    """Read the test set of a run: from the paths in its result, or else below a root found from its images' paths.

    Raises:
        TransferError: the paths no longer exist, or the data there have changed.
    """
    files = {name: DataFiles.from_described(name, described) for name, described in task.data.items()}
    if set(task.test) <= set(files):
        return catalog.load_dataset(task.test, None, task.class_names, task.data_rules, files)
    path = run_folder / FOLDER / IMAGES_FILE
    paths = _read_json(path)
    if not isinstance(paths, dict) or not paths:
        raise TransferError(f"{path}: names no image")
    depth = catalog.kind_named(task.kind).image_depth
    image = next(iter(paths.values()))
    roots = list(Path(str(image)).parents)[depth:]
    if not roots:
        raise TransferError(f"{path}: {image!r} does not lie in a data set")
    faults = []
    for root in roots[: 1 + _MOST_SUB_FOLDERS]:
        try:
            return catalog.load_dataset(task.test, root, task.class_names, task.data_rules)
        except TransferError as error:
            faults.append(error)
    raise faults[0]


def read_detections(run_folder: Path, dataset: Dataset) -> list[dict[str, Any]]:
    """Read the rows of a run's predictions (transfer.predictions), each checked against the data set.

    Raises:
        TransferError: there is no such file, or it lists entries that are no predictions in this data set.
    """
    path = detections_file(run_folder, dataset)
    detections = _read_json(path)
    if not isinstance(detections, list):
        raise TransferError(f"{path}: a list of detections is expected")
    images = {record["image_id"]: (record["height"], record["width"]) for record in dataset.records}
    categories = set(dataset.category_ids)
    is_row = _is_label_map_row if dataset.kind.has_label_maps else _is_detection
    refuse(
        [
            f"{path}[{i}]: not a prediction in this data set"
            for i, detection in enumerate(detections)
            if not is_row(detection, images, categories)
        ]
    )
    return detections


def by_image(detections: Sequence[dict[str, Any]], dataset: Dataset) -> list[list[dict[str, Any]]]:
    """Group detections by the images of the data set, each group in descending order of score."""
    found: dict[Any, list[dict[str, Any]]] = {record["image_id"]: [] for record in dataset.records}
    for detection in detections:
        found[detection["image_id"]].append(detection)
    return [sorted(of_image, key=lambda detection: -detection["score"]) for of_image in found.values()]


def _is_of_the_data(value: Any, images: Sizes, categories: set[int]) -> bool:
    return (
        isinstance(value, Mapping)
        and isinstance(value.get("image_id"), (int, str))
        and value["image_id"] in images
        and is_id(value.get("category_id"))
        and value["category_id"] in categories
    )


def _is_label_map_row(value: Any, images: Sizes, categories: set[int]) -> bool:
    """Return True for a class in an image with its pixels as a whole run-length mask."""
    return _is_of_the_data(value, images, categories) and (
        mask_fault(value.get("segmentation"), *images[value["image_id"]]) is None
    )


def _is_detection(value: Any, images: Sizes, categories: set[int]) -> bool:
    return (
        _is_of_the_data(value, images, categories)
        and is_number(value.get("score"))
        and are_numbers(value.get("bbox"), 4)
        and min(value["bbox"][2:]) >= 0
    )


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TransferError(f"{path}: cannot be read: {error}") from error
