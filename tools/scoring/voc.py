"""The scores of the devkit's result files against a VOC folder."""

import argparse
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from common.subcommand import SubCommand
from pretrain.runtime.host import user_path
from transfer.data import catalog
from transfer.data.common import faults
from transfer.data.common.data_files import DataFiles
from transfer.data.common.faults import Findings
from transfer.data.voc import records
from transfer.data.voc.records import VocImage, VocSplit, read_voc_split
from transfer.evaluation.voc import ap as voc_eval
from transfer.evaluation.voc.remarks import voc_remarks
from transfer.evaluation.voc.results import read_voc_results

from .numbers import cell


def score_voc(arguments: argparse.Namespace) -> dict[str, Any]:
    """Score a folder of VOC result files by the metric of the year and by both."""
    year = 2007 if "2007" in arguments.dataset_root.resolve().name else 2012
    return _score_split(VocSplit.of(arguments.dataset_root, arguments.split), arguments.split, year, arguments)


def score_voc_files(files: DataFiles, arguments: argparse.Namespace) -> dict[str, Any]:
    """Score result files on data that are named by path, by the newest metric, as `score_voc` does."""
    split = VocSplit(files.annotations, files.images, files.image_list)
    return _score_split(split, files.name, voc_eval.NEWEST_YEAR, arguments)


def print_voc_scores(scores: Mapping[str, Any], console: Console) -> None:
    """Print AP by class and the means by both of VOC's metrics, then those by the metric of the year."""
    columns = ("AP", "AP50", "AP75")
    table = Table("class", *(f"{name}\n{metric}" for metric in voc_eval.METRICS for name in columns))
    names = list(scores["area"]["per_class"])
    for name in names:
        rows = [scores[metric]["per_class"][name] for metric in voc_eval.METRICS]
        table.add_row(name, *(cell(row[column]) for row in rows for column in columns))
    table.add_section()
    for title, rows in (
        (f"mean of all {len(names)}", [scores[metric] for metric in voc_eval.METRICS]),
        ("with objects", [scores[metric]["with_ground_truth"] for metric in voc_eval.METRICS]),
    ):
        table.add_row(title, *(cell(row[column]) for row in rows for column in columns))
    console.print(table)
    for name in columns:
        console.print(f"{name:<5} {cell(scores[name])}  ({scores['metric']}: this year's metric)")


def _score_split(split: VocSplit, title: str, year: int, arguments: argparse.Namespace) -> dict[str, Any]:
    findings = Findings(faults.parse_rules(arguments.data_rules))
    asked = None if arguments.classes is None else catalog.parse_class_names(arguments.classes)
    images = read_voc_split(split, findings, asked)
    class_names = asked or _found_classes(images, title)
    split_name = split.image_list.stem if split.image_list else title
    ground_truth = {image.image_id: image.objects for image in images}
    detections, ignored = read_voc_results(arguments.results, class_names, split_name, findings, ground_truth)
    if ignored:
        names = ", ".join(path.name for path in ignored)
        logging.warning("not read, no class that is scored (--classes names them) has such a file: %s", names)
    scores = voc_eval.evaluate_voc(ground_truth, detections, class_names)
    metric = voc_eval.official_metric(year)
    remarks = voc_remarks(ground_truth, detections, scores[metric])
    official = voc_eval.headline(scores[metric])
    return {"metric": metric, **official, **scores, "remarks": list(remarks), "data_faults": findings.counts()}


def _found_classes(images: Sequence[VocImage], split: str) -> tuple[str, ...]:
    """Return the classes that the split shows, with a word where these are a part of VOC's 20."""
    found = records.class_names_in(images)
    if found != records.CLASS_NAMES and set(found) <= set(records.CLASS_NAMES):
        logging.warning(
            "%d of PASCAL VOC's 20 classes occur in %s and are scored; --classes voc scores all 20", len(found), split
        )
    return found


def _add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dataset-root",
        type=user_path,
        required=True,
        metavar="VOC",
        help="one year's folder, such as VOCdevkit/VOC2012",
    )
    parser.add_argument("--split", required=True, help="a list in ImageSets/Main, such as test")
    parser.add_argument(catalog.CLASSES_FLAG, metavar="CLASSES", help=catalog.CLASSES_HELP)
    parser.add_argument("--results", type=user_path, required=True, metavar="DIR", help="folder of <class>.txt")
    parser.set_defaults(score=score_voc, show=print_voc_scores)


VOC = SubCommand(
    "voc",
    'the devkit\'s result files (<class>.txt, lines "image score xmin ymin xmax ymax") against a VOC folder',
    (
        "evaluate.py voc --dataset-root VOCdevkit/VOC2012 --split val --results detections/",
        "evaluate.py voc --dataset-root VOCdevkit/VOC2012 --split val --results detections/ \\\n"
        "      --data-rule zero_area=drop --data-rule outside=clip",
    ),
    _add_flags,
    "VOC: the classes are those that occur in the split, which are PASCAL VOC's 20 where all of them do; --classes\n"
    "names others. AP is the mean over the classes with objects to find, for VOC's 20 over all of them, as published.",
)
