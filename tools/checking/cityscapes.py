"""The check of one split of Cityscapes: its polygon files, its images, its images of objects, and results."""

import argparse
from collections import Counter
from pathlib import Path
from typing import Any

from common.subcommand import SubCommand
from pretrain.runtime.host import user_path
from transfer.data.cityscapes.dataset import examine_split
from transfer.data.cityscapes.files import CityscapesSplit, cityscapes_folder, find_instance_images, frame_name
from transfer.data.cityscapes.labels import INSTANCE_CLASSES
from transfer.data.common.data_files import DataFiles
from transfer.data.common.detector_needs import examine_objects, examine_shapes
from transfer.data.common.faults import Findings
from transfer.data.common.image_files import StatedImage, check_image_files
from transfer.errors import TransferError
from transfer.evaluation.cityscapes.instance_image import read_instance_image
from transfer.evaluation.cityscapes.results import rows_by_frame
from transfer.evaluation.coco.results import read_coco_results

from .lines import contents_line


def check_cityscapes(arguments: argparse.Namespace, findings: Findings) -> str:
    """Check a split of Cityscapes; return a summary of its contents."""
    return _check_split(
        CityscapesSplit.of(cityscapes_folder(arguments.dataset_root), arguments.split), arguments, findings
    )


def check_cityscapes_files(files: DataFiles, arguments: argparse.Namespace, findings: Findings) -> str:
    """Check a split that is named by path; return a summary of its contents."""
    return _check_split(CityscapesSplit(files.images, files.annotations), arguments, findings)


def _check_split(split: CityscapesSplit, arguments: argparse.Namespace, findings: Findings) -> str:
    records = examine_split(split, findings)
    stated = [
        StatedImage(record["image_id"], Path(record["file_name"]), (record["height"], record["width"]))
        for record in records
    ]
    examine_shapes(stated, arguments.max_size, findings)
    check_image_files(stated, findings, decode=not arguments.headers_only)
    items = [item for record in records for item in record["annotations"]]
    if not findings.refused():
        examine_objects(items, True, str(split.annotations), findings, findings.counts())
    _check_instance_images(split, records, findings)
    if arguments.results is not None:
        _check_results(arguments.results, records, findings)
    objects = Counter(dict.fromkeys(INSTANCE_CLASSES, 0))
    objects.update(INSTANCE_CLASSES[item["category_id"]] for item in items)
    return contents_line(len(records), objects)


def _check_instance_images(split: CityscapesSplit, records: list[dict[str, Any]], findings: Findings) -> None:
    """Add what keeps a detector from being scored on the split."""
    paths = dict(find_instance_images(split.annotations))
    for record in records:
        path = paths.get(frame_name(record["image_id"]))
        if path is None:
            what = "no ..._gtFine_instanceIds.png, without which nothing can be scored on this image"
            findings.add("file", record["image_id"], what)
            continue
        try:
            height, width = read_instance_image(path).size
        except TransferError as error:
            findings.add("file", str(path), str(error).removeprefix(f"{path}: "))
            continue
        if (height, width) != (record["height"], record["width"]):
            what = f"{width} x {height}, not {record['width']} x {record['height']} as its image"
            findings.add("file", str(path), what)


def _check_results(path: Path, records: list[dict[str, Any]], findings: Findings) -> None:
    try:
        rows = read_coco_results(path)
    except TransferError as error:
        findings.add("file", str(path), str(error).removeprefix(f"{path}: "))
        return
    sizes = {frame_name(record["image_id"]): (record["height"], record["width"]) for record in records}
    rows_by_frame(rows, sizes, str(path), findings)


def _add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dataset-root", type=user_path, required=True, metavar="DIR",
        help="folder of leftImg8bit/ and gtFine/, or of cityscapes/ with them",
    )  # fmt: skip
    parser.add_argument("--split", default="val", help="train, val or test (default val)")
    parser.add_argument("--results", type=user_path, metavar="R.json", help="also check a file of instance masks")
    parser.set_defaults(check=check_cityscapes, masks="polygon")


CITYSCAPES = SubCommand(
    "cityscapes",
    "the polygons of one split of Cityscapes, its images, and a file of instance masks",
    ("check_dataset.py cityscapes --dataset-root datasets/cityscapes --split train",),
    _add_flags,
)
