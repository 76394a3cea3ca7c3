"""The scores of a COCO results file against an annotation file of LVIS."""

import argparse
import math
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from common.subcommand import SubCommand
from pretrain.runtime.host import user_path
from transfer.data.common import faults
from transfer.data.common.faults import Findings
from transfer.data.lvis.annotation_file import lvis_rules
from transfer.evaluation.coco.results import read_coco_results
from transfer.evaluation.lvis import ap as lvis_eval

from .numbers import cell


def score_lvis(arguments: argparse.Namespace) -> dict[str, Any]:
    """Score a results file by LVIS's metric; return its scores, remarks and the faults of the data by rule."""
    rules = lvis_rules(faults.parse_rules(arguments.data_rules))
    findings = Findings(faults.rules_for(rules, masks=arguments.iou_type == "segm"))
    rows = read_coco_results(arguments.results)
    scores = lvis_eval.evaluate_lvis(arguments.annotations, rows, arguments.iou_type, str(arguments.results), findings)
    return {"iou_type": arguments.iou_type, **scores, "data_faults": findings.counts()}


def print_lvis_scores(scores: Mapping[str, Any], console: Console) -> None:
    """Print AP of the categories with objects, then LVIS's statistics."""
    table = Table("category", "AP", title=f"AP by category with objects ({scores['iou_type']})")
    for name, value in scores["per_class"].items():
        if not math.isnan(value):  # of over a thousand categories, small sets show few
            table.add_row(name, cell(value))
    console.print(table)
    for name in lvis_eval.STATISTICS:
        console.print(f"{name:<8} {cell(scores[name])}")


def _add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--annotations", type=user_path, required=True, metavar="A.json", help="LVIS annotation file")
    parser.add_argument("--results", type=user_path, required=True, metavar="R.json", help="COCO results file")
    parser.add_argument(
        "--iou-type", choices=lvis_eval.IOU_TYPES, default="bbox", help="what is compared (default bbox)"
    )
    parser.set_defaults(score=score_lvis, show=print_lvis_scores)


LVIS = SubCommand(
    "lvis",
    "a COCO results file against an annotation file of LVIS, by the metric of LVIS",
    ("evaluate.py lvis --annotations lvis_v1_val.json --results coco_instances_results.json --iou-type segm",),
    _add_flags,
    "LVIS: detections of a class that an image was not verified for are not scored, 300 of an image are, and APr, APc\n"
    "and APf are of rare, common and frequent classes.",
)
