"""The scores of predicted label maps against true ones."""

import argparse
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from common.label_maps import class_names_of
from common.subcommand import SubCommand
from pretrain.runtime.host import user_path
from transfer.data.common import faults
from transfer.data.common.data_files import DataFiles
from transfer.data.common.faults import Findings
from transfer.data.semantic.label_maps import IGNORED
from transfer.errors import TransferError
from transfer.evaluation.semantic.folders import score_folders
from transfer.evaluation.semantic.iou import METRICS

from .numbers import cell


def score_semantic(arguments: argparse.Namespace) -> dict[str, Any]:
    """Score a folder of label maps; return the scores, remarks and the faults of the data by rule."""
    if not 0 <= arguments.ignore <= IGNORED:
        raise TransferError(f"--ignore {arguments.ignore}: a value of a pixel is expected, from 0 to {IGNORED}")
    findings = Findings(faults.rules_for(faults.parse_rules(arguments.data_rules), scored=True))
    names = class_names_of(arguments.classes)
    scores = score_folders(arguments.labels, arguments.predictions, names, arguments.ignore, findings)
    return {**scores, "data_faults": findings.counts()}


def score_label_map_files(files: DataFiles, arguments: argparse.Namespace) -> dict[str, Any]:
    """Score a folder of label maps on data that are named by path, as `score_semantic` does."""
    if arguments.classes is None:
        raise TransferError(f"{files.name}: label maps do not name their classes; give their number by --classes N")
    if files.image_list is not None:
        raise TransferError(
            f"{files.name}: all label maps of a folder are scored, not those of a list; copy them into a folder for "
            "`semantic --labels`"
        )
    arguments.labels, arguments.predictions, arguments.ignore = files.annotations, arguments.results, IGNORED
    return score_semantic(arguments)


def print_semantic_scores(scores: Mapping[str, Any], console: Console) -> None:
    """Print the IoU of each class, then the means."""
    table = Table("class", "IoU", title=f"IoU by class, {scores['images']} images")
    for name, value in scores["per_class"].items():
        table.add_row(name, cell(value))
    console.print(table)
    for name in METRICS:
        console.print(f"{name:<4} {cell(scores[name])}")


def _add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--labels", type=user_path, required=True, metavar="DIR", help="folder of true label maps (PNG)"
    )
    parser.add_argument(
        "--predictions", type=user_path, required=True, metavar="DIR", help="folder of predicted ones of the same names"
    )
    parser.add_argument(
        "--classes", required=True, metavar="N", help="the number of classes; or their names, as elsewhere"
    )
    parser.add_argument(
        "--ignore", type=int, default=IGNORED, metavar="VALUE",
        help=f"value of the pixels that are not scored (default {IGNORED}); predicted, it is no class",
    )  # fmt: skip
    parser.set_defaults(score=score_semantic, show=print_semantic_scores)


SEMANTIC = SubCommand(
    "semantic",
    "label maps (PNG files of class indices) against those of the same names: mean IoU",
    ("evaluate.py semantic --labels SegmentationClass --predictions predicted --classes 21",),
    _add_flags,
    "Label maps: IoU is one ratio a class over the pixels of all images. A class that is predicted and does not occur\n"
    "counts with IoU 0, as in cityscapesscripts; Detectron2's evaluator leaves it out.",
)
