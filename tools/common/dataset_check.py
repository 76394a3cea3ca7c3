"""The checks of tools/check_dataset.py: a VOC split or a COCO annotation file, its images and results."""

import argparse
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pretrain.runtime.errors import listed_lines
from pretrain.runtime.progress import track
from transfer.data import catalog
from transfer.data.coco.annotation_file import examine_coco_annotations
from transfer.data.common.faults import KINDS, Fault, Findings
from transfer.data.common.images import StatedImage, check_image_files
from transfer.data.voc import records
from transfer.data.voc.files import ANNOTATIONS, sub_folder
from transfer.data.voc.records import examine_voc_split
from transfer.errors import TransferError
from transfer.evaluation.coco_results import apply_rules_to_detections, read_coco_results
from transfer.evaluation.voc_results import examine_voc_results


def fault_lines(faults: Sequence[Fault], shown: int | None) -> Iterator[str]:
    """Yield the faults by kind, under a line with the count and rule of each; at most `shown` of a kind."""
    for kind in KINDS:
        own = [fault for fault in faults if fault.kind == kind]
        if own:
            yield f"{kind}: {len(own)} {KINDS[kind].meaning}; rule: {own[0].rule}"
            yield from listed_lines(own, shown, advice=" (--all lists them)")


def check_voc(arguments: argparse.Namespace, findings: Findings) -> str:
    """Check a VOC split; return a summary of its contents."""
    folder = arguments.dataset_root
    asked = None if arguments.classes is None else catalog.parse_class_names(arguments.classes)
    images = examine_voc_split(records.VocSplit(folder, arguments.split), findings, asked)
    if not arguments.no_images:
        _check_voc_images(folder, images, findings)
    if arguments.results is not None:
        names = asked or records.class_names_in(images)
        image_ids = [image.image_id for image in images]
        examine_voc_results(arguments.results, names, arguments.split, findings, image_ids)
    return _contents(len(images), Counter(item.name for image in images for item in image.objects))


def check_coco(arguments: argparse.Namespace, findings: Findings) -> str:
    """Check a COCO annotation file; return a summary of its contents."""
    content = examine_coco_annotations(arguments.annotations, findings)
    if content is None:
        return "0 images"
    if arguments.images is not None:
        stated = [
            StatedImage(
                f"{arguments.annotations}: image id {image['id']}",
                arguments.images / image["file_name"],
                (image["height"], image["width"]),
            )
            for image in content["images"]
        ]
        check_image_files(_with_progress(stated), findings)
    if arguments.results is not None:
        _check_coco_results(arguments.results, content, arguments.iou_type, findings)
    names = {category["id"]: category["name"] for category in content["categories"]}
    objects = Counter(names.get(item["category_id"], "?") for item in content["annotations"])
    return _contents(len(content["images"]), objects)


def _check_coco_results(path: Path, content: dict[str, Any], iou_type: str, findings: Findings) -> None:
    try:
        detections = read_coco_results(path)
    except TransferError as error:
        findings.add("file", str(path), str(error).removeprefix(f"{path}: "))
    else:
        apply_rules_to_detections(detections, content, iou_type, str(path), findings)


def _check_voc_images(folder: Path, images: Sequence[records.VocImage], findings: Findings) -> None:
    files = records.image_files(folder)
    stated = []
    for image in images:
        where = str(sub_folder(folder, ANNOTATIONS) / f"{image.image_id}.xml")
        try:
            stated.append(StatedImage(where, files.file(image.image_id), image.size))
        except TransferError as error:  # there is no file, or more than one
            findings.add("image_file", where, str(error))
    check_image_files(_with_progress(stated), findings)


def _with_progress(images: Sequence[StatedImage]) -> Iterable[StatedImage]:
    return track(images, "images")


def _contents(images: int, objects: Counter[str]) -> str:
    by_class = ", ".join(f"{name} {count}" for name, count in objects.most_common())
    return f"{images} images, {objects.total()} objects ({by_class or 'none'})"
