"""The checks of tools/check_dataset.py: a VOC split or a COCO annotation file, its images and results."""

import argparse
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pretrain.runtime.errors import listed, listed_lines
from transfer.data import catalog, own
from transfer.data.coco.annotation_file import examine_coco_annotations
from transfer.data.coco.image_names import find_image_files
from transfer.data.coco.records import add_missing_keypoints, is_trained_on
from transfer.data.common.class_names import warn_of_alike_names
from transfer.data.common.data_files import DataFiles
from transfer.data.common.detector_needs import examine_objects, examine_shapes
from transfer.data.common.faults import KINDS, Fault, Findings
from transfer.data.common.image_files import StatedImage, check_image_files
from transfer.data.common.shared_images import shared_files
from transfer.data.voc import records
from transfer.data.voc.records import VocSplit, examine_voc_split
from transfer.errors import TransferError
from transfer.evaluation.coco.ap import ground_truth_faults
from transfer.evaluation.coco.results import apply_rules_to_detections, read_coco_results
from transfer.evaluation.voc.results import examine_voc_results

KEYPOINTS_FILE = "person_keypoints"  # begins the names of files whose objects all have the keypoints of a person


def fault_lines(faults: Sequence[Fault], shown: int | None) -> Iterator[str]:
    """Yield the faults by kind, under a line with the count and rule of each; at most `shown` of a kind."""
    for kind in KINDS:
        own = [fault for fault in faults if fault.kind == kind]
        if own:
            yield f"{kind}: {len(own)} {KINDS[kind].meaning}; rule: {own[0].rule}"
            yield from listed_lines(own, shown, advice=" (--all lists them)")


def check_voc(arguments: argparse.Namespace, findings: Findings) -> str:
    """Check a VOC split; return a summary of its contents."""
    split = VocSplit.of(arguments.dataset_root, arguments.split)
    return _check_split(split, f"{arguments.dataset_root}, {arguments.split}", arguments, findings)


def check_coco(arguments: argparse.Namespace, findings: Findings) -> str:
    """Check a COCO annotation file; return a summary of its contents."""
    return _check_file(arguments.annotations, arguments.images, arguments, findings)


def check_data(arguments: argparse.Namespace, findings: Findings) -> str:
    """Check data that are named by path, or by the names of a YAML file; return a summary of their contents."""
    known = own.read_data_file(arguments.data) if arguments.data else {}
    words = arguments.names or list(known)
    if not words:
        raise TransferError("no data are named: give paths, or a YAML file of data sets by --data")
    summaries, chosen = [], [_found(word, known) for word in words]
    for files in chosen:
        shown = ", ".join(f"{key} {value}" for key, value in files.described().items())
        print(f"{files.name}: {shown}")
        if files.format == "coco":
            contents = _check_file(files.annotations, files.images, arguments, findings)
        else:
            split = VocSplit(files.annotations, files.images, files.image_list)
            contents = _check_split(split, files.name, arguments, findings)
        summaries.append(f"{files.name}: {contents}")
        findings.totals.clear()
    compared = [] if findings.refused() else _comparisons(chosen, own_pairs=not arguments.names)
    return "\n".join([*summaries[:-1], *compared, summaries[-1]])


def _comparisons(chosen: Sequence[DataFiles], own_pairs: bool) -> Iterator[str]:
    """Describe what keeps two data sets from being trained and tested on: images of both, classes of one alone.

    Args:
        own_pairs: compare the parts of a data set with each other, cells_train with cells_test, and not with others'.
    """
    read = [catalog.load_dataset([files.name], None, files={files.name: files}) for files in chosen]
    for (name, one), (other_name, other) in itertools.combinations(zip([f.name for f in chosen], read, strict=True), 2):
        if own_pairs and name.rpartition("_")[0] != other_name.rpartition("_")[0]:
            continue
        images, others = ([str(record["file_name"]) for record in dataset.records] for dataset in (one, other))
        if shared := shared_files(images, others):
            yield f"{name} and {other_name}: {len(shared)} images are in both: {listed(shared, 3)}"
        if alone := sorted(set(one.class_names) ^ set(other.class_names)):
            yield f"{name} and {other_name}: only one of them has these classes: {listed(alone, 10)}"


def _found(word: str, known: Mapping[str, DataFiles]) -> DataFiles:
    found = own.find_data(word, known)
    if found is None:
        raise TransferError(f"{word}: a built-in name; `voc` and `coco` check those data, by their folder and files")
    return found


def _check_split(split: VocSplit, title: str, arguments: argparse.Namespace, findings: Findings) -> str:
    asked = None if arguments.classes is None else catalog.parse_class_names(arguments.classes)
    images = examine_voc_split(split, findings, asked)
    if not arguments.no_images:
        _check_voc_images(split, images, arguments, findings)
    objects = [item for image in images for item in image.objects]
    if not findings.refused():
        marked = [{"difficult": item.difficult} for item in objects]
        examine_objects(marked, True, title, findings, findings.counts())
    if arguments.results is not None:
        names = asked or records.class_names_in(images)
        image_ids = [image.image_id for image in images]
        examine_voc_results(arguments.results, names, arguments.split, findings, image_ids)
    by_class = Counter(item.name for item in objects)
    warn_of_alike_names(title, by_class)
    return _contents(len(images), by_class)


def _check_file(path: Path, image_folder: Path | None, arguments: argparse.Namespace, findings: Findings) -> str:
    content = examine_coco_annotations(path, findings)
    if content is None:
        return "0 images"
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
    if arguments.results is not None:
        _check_coco_results(arguments.results, content, arguments.iou_type, findings)
    names = {category["id"]: category["name"] for category in content["categories"]}
    objects = Counter(dict.fromkeys(names.values(), 0))
    objects.update(names.get(item["category_id"], "?") for item in content["annotations"])
    warn_of_alike_names(str(path), objects)
    return _contents(len(content["images"]), objects)


def _check_ground_truth(path: Path, content: dict[str, Any], findings: Findings) -> None:
    """Add what a detector could not be trained or scored by, of all that the file's annotations have."""
    if path.name.startswith(KEYPOINTS_FILE):
        add_missing_keypoints(path, content, findings)
    parts = ["bbox"]
    if any(item.get("segmentation") for item in content["annotations"]) and not findings.allows("no_mask"):
        parts.append("segm")
    for fault in dict.fromkeys(fault for part in parts for fault in ground_truth_faults(content, part)):
        findings.add("unscored", str(path), fault)


def _check_coco_results(path: Path, content: dict[str, Any], iou_type: str, findings: Findings) -> None:
    try:
        detections = read_coco_results(path)
    except TransferError as error:
        findings.add("file", str(path), str(error).removeprefix(f"{path}: "))
    else:
        apply_rules_to_detections(detections, content, iou_type, str(path), findings)


def _check_voc_images(
    split: VocSplit, images: Sequence[records.VocImage], arguments: argparse.Namespace, findings: Findings
) -> None:
    files = split.image_files()
    findings.totals["images"] = len(images)
    stated = []
    for image in images:
        where = str(split.annotations / f"{image.image_id}.xml")
        try:
            stated.append(StatedImage(where, files.file(image.image_id), image.size))
        except TransferError as error:  # there is no file, or more than one
            findings.add("image_file", where, str(error))
    examine_shapes(stated, arguments.max_size, findings)
    check_image_files(stated, findings, decode=not arguments.headers_only)


def _contents(images: int, objects: Counter[str]) -> str:
    by_class = ", ".join(f"{name} {count}" for name, count in objects.most_common())
    return f"{images} images, {objects.total()} objects ({by_class or 'none'})"
