"""The scores of instance masks against Cityscapes' images of objects."""

import argparse
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from common.subcommand import SubCommand
from pretrain.runtime.host import user_path
from transfer.data.common import faults
from transfer.data.common.data_files import DataFiles
from transfer.data.common.faults import Findings
from transfer.evaluation.cityscapes.folder import score_folder
from transfer.evaluation.coco.results import read_coco_results

from .numbers import cell

_COLUMNS = ("AP", "AP50")


def score_cityscapes(arguments: argparse.Namespace) -> dict[str, Any]:
    """Score a file of instance masks by Cityscapes' AP; return its scores, remarks and faults by rule."""
    findings = Findings(faults.parse_rules(arguments.data_rules))
    rows = read_coco_results(arguments.results)
    scores = score_folder(arguments.ground_truth, rows, str(arguments.results), findings)
    return {**scores, "data_faults": findings.counts()}


def score_cityscapes_files(files: DataFiles, arguments: argparse.Namespace) -> dict[str, Any]:
    """Score a file of instance masks on a split that is named by path, as `score_cityscapes` does."""
    arguments.ground_truth = files.annotations
    return score_cityscapes(arguments)


def print_cityscapes_scores(scores: Mapping[str, Any], console: Console) -> None:
    """Print AP and AP50 of each class, then their means."""
    table = Table("class", *_COLUMNS, title="Cityscapes' AP of instance masks")
    for name, own in scores["per_class"].items():
        table.add_row(name, *(cell(own[column]) for column in _COLUMNS))
    console.print(table)
    for column in _COLUMNS:
        console.print(f"{column:<6} {cell(scores[column])}")


def _add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--ground-truth", type=user_path, required=True, metavar="DIR",
        help="folder of the images of objects, CITY/*_gtFine_instanceIds.png; all of them are scored",
    )  # fmt: skip
    parser.add_argument(
        "--results", type=user_path, required=True, metavar="R.json",
        help="list of {image, category_id, score, segmentation}: name of the image, label id (24 is person), "
        "run-length mask; or the coco_instances_results.json of a run",
    )  # fmt: skip
    parser.set_defaults(score=score_cityscapes, show=print_cityscapes_scores)


CITYSCAPES = SubCommand(
    "cityscapes",
    "instance masks against Cityscapes' images of objects, by Cityscapes' own AP",
    ("evaluate.py cityscapes --ground-truth cityscapes/gtFine/val --results masks.json",),
    _add_flags,
    "Cityscapes: AP is not COCO's. The precision is not interpolated, masks may overlap, objects of fewer than 100\n"
    "pixels need not be found, and detections on void, on groups or on small objects do not count.",
)
