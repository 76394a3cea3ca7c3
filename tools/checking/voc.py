"""The check of one split of a VOC folder: its XML files, images and the devkit's result files."""

import argparse
from collections import Counter
from collections.abc import Sequence

from common.subcommand import SubCommand
from pretrain.runtime.host import user_path
from transfer.data import catalog
from transfer.data.common.class_names import warn_of_alike_names
from transfer.data.common.data_files import DataFiles
from transfer.data.common.detector_needs import examine_objects, examine_shapes
from transfer.data.common.faults import Findings
from transfer.data.common.image_files import StatedImage, check_image_files
from transfer.data.voc import records
from transfer.data.voc.records import VocSplit, examine_voc_split
from transfer.errors import TransferError
from transfer.evaluation.voc.results import examine_voc_results

from .lines import contents_line


def check_voc(arguments: argparse.Namespace, findings: Findings) -> str:
    """Check a VOC split; return a summary of its contents."""
    split = VocSplit.of(arguments.dataset_root, arguments.split)
    return _check_split(split, f"{arguments.dataset_root}, {arguments.split}", arguments, findings)


def check_voc_files(files: DataFiles, arguments: argparse.Namespace, findings: Findings) -> str:
    """Check data in VOC layout that are named by path, as `check_voc` does."""
    return _check_split(VocSplit(files.annotations, files.images, files.image_list), files.name, arguments, findings)


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
    return contents_line(len(images), by_class)


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


def _add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dataset-root",
        type=user_path,
        required=True,
        metavar="VOC",
        help="one year's folder, such as VOCdevkit/VOC2012",
    )
    parser.add_argument("--split", required=True, help="a list in ImageSets/Main, such as trainval")
    parser.add_argument(catalog.CLASSES_FLAG, metavar="CLASSES", help=catalog.CLASSES_HELP)
    parser.add_argument("--no-images", action="store_true", help="do not look at JPEGImages/")
    parser.add_argument("--results", type=user_path, metavar="DIR", help="also check a folder of <class>.txt")
    parser.set_defaults(check=check_voc, masks="no")


VOC = SubCommand(
    "voc",
    "the XML files of one split of a VOC folder, its images, and the devkit's result files",
    (
        "check_dataset.py voc --dataset-root VOCdevkit/VOC2007 --split trainval",
        "check_dataset.py voc --dataset-root VOCdevkit/VOC2007 --split test --results detections/",
    ),
    _add_flags,
)
