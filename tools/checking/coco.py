"""The check of an annotation file in COCO layout, its images and a COCO results file."""

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.subcommand import SubCommand
from pretrain.runtime.host import user_path
from transfer.data.coco.annotation_file import examine_coco_annotations
from transfer.data.coco.image_names import find_image_files
from transfer.data.coco.records import add_missing_keypoints, is_trained_on
from transfer.data.common.class_names import warn_of_alike_names
from transfer.data.common.data_files import DataFiles
from transfer.data.common.detector_needs import examine_objects, examine_shapes
from transfer.data.common.faults import Findings
from transfer.data.common.image_files import StatedImage, check_image_files
from transfer.errors import TransferError
from transfer.evaluation.coco.ap import ground_truth_faults
from transfer.evaluation.coco.results import SCORED_FIELD, apply_rules_to_detections, read_coco_results

from .lines import contents_line

KEYPOINTS_FILE = "person_keypoints"  # begins the names of files whose objects all have the keypoints of a person


def check_coco(arguments: argparse.Namespace, findings: Findings) -> str:
    """Check a COCO annotation file; return a summary of its contents."""
    return _check_file(arguments.annotations, arguments.images, arguments, findings)


def check_coco_files(files: DataFiles, arguments: argparse.Namespace, findings: Findings) -> str:
    """Check data in COCO layout that are named by path, as `check_coco` does."""
    return _check_file(files.annotations, files.images, arguments, findings)


def _check_file(path: Path, image_folder: Path | None, arguments: argparse.Namespace, findings: Findings) -> str:
    content = examine_coco_annotations(path, findings)
    if content is None:
        return "0 images"
    check_coco_content(path, content, image_folder, arguments, findings)
    check_coco_results(content, arguments, findings)
    names = {category["id"]: category["name"] for category in content["categories"]}
    objects = Counter(dict.fromkeys(names.values(), 0))
    objects.update(names.get(item["category_id"], "?") for item in content["annotations"])
    warn_of_alike_names(str(path), objects)
    return contents_line(len(content["images"]), objects)


def check_coco_content(
    path: Path, content: dict[str, Any], image_folder: Path | None, arguments: argparse.Namespace, findings: Findings
) -> None:
    """Check the images of an annotation file, and its objects as ground truth.

    Args:
        content: of the file, as far as its entries pass; its images have a file_name.
        image_folder: the folder of the images. None: they are not looked at.
    """
    named = [(f"{path}: image id {image['id']}", image["file_name"]) for image in content["images"]]
    files: Sequence[str | None] = [name for _, name in named]
    if image_folder is not None:
        files = find_image_files(named, image_folder, findings)
    stated = [
        StatedImage(where, Path(file), (image["height"], image["width"]))
        for (where, _), file, image in zip(named, files, content["images"], strict=True)
        if file is not None
    ]
    examine_shapes(stated, arguments.max_size, findings)
    if image_folder is not None:
        check_image_files(stated, findings, decode=not arguments.headers_only)
    if not findings.refused():
        sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
        used = [item for item in content["annotations"] if is_trained_on(item, *sizes[item["image_id"]])]
        examine_objects(used, True, str(path), findings, findings.counts())
        _check_ground_truth(path, content, findings)


def _check_ground_truth(path: Path, content: dict[str, Any], findings: Findings) -> None:
    """Add what a detector could not be trained or scored by, of all that the file's annotations have."""
    if path.name.startswith(KEYPOINTS_FILE):
        add_missing_keypoints(path, content, findings)
    parts = ["bbox"]
    if any(item.get("segmentation") for item in content["annotations"]) and not findings.allows("no_mask"):
        parts.append("segm")
    for fault in dict.fromkeys(fault for part in parts for fault in ground_truth_faults(content, part)):
        findings.add("unscored", str(path), fault)


def check_coco_results(content: dict[str, Any], arguments: argparse.Namespace, findings: Findings) -> None:
    """Check a COCO results file, if one is named, against the content of an annotation file."""
    path: Path | None = arguments.results
    if path is None:
        return
    try:
        detections = read_coco_results(path)
    except TransferError as error:
        findings.add("file", str(path), str(error).removeprefix(f"{path}: "))
    else:
        apply_rules_to_detections(detections, content, arguments.iou_type, str(path), findings)


def _add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--annotations", type=user_path, required=True, metavar="A.json", help="COCO annotation file")
    parser.add_argument(
        "--images", type=user_path, metavar="DIR", help="also check the images, which lie in this folder"
    )
    parser.add_argument("--results", type=user_path, metavar="R.json", help="also check a COCO results file")
    parser.add_argument("--iou-type", choices=SCORED_FIELD, default="bbox", help="what of the results (default bbox)")
    parser.add_argument(
        "--masks", choices=("polygon", "bitmask", "no"), default=None,
        help="INPUT.MASK_FORMAT, or no where boxes alone are trained (default polygon, no for a file without masks)",
    )  # fmt: skip
    parser.set_defaults(check=check_coco)


COCO = SubCommand(
    "coco",
    "an annotation file in COCO layout, its images, and a COCO results file",
    (
        "check_dataset.py coco --annotations instances_val2017.json --images val2017",
        "check_dataset.py coco --annotations instances_val2017.json --results found.json --iou-type segm",
        "check_dataset.py coco --annotations mine.json --rule outside=clip --rule zero_area=drop --all",
    ),
    _add_flags,
)
