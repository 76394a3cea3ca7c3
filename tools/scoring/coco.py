"""The scores of a COCO results file against a COCO annotation file."""

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
from transfer.evaluation.coco import ap as coco_eval
from transfer.evaluation.coco.evaluators import EVALUATORS, FLAG, FLAG_HELP
from transfer.evaluation.coco.results import read_coco_results

from .numbers import cell


def score_coco(arguments: argparse.Namespace) -> dict[str, Any]:
    """Score a COCO results file; return its scores, remarks and the faults of the data by rule."""
    rules = faults.parse_rules(arguments.data_rules)
    findings = Findings(faults.rules_for(rules, masks=arguments.iou_type == "segm"))
    rows = read_coco_results(arguments.results)
    scores = coco_eval.evaluate_coco(
        arguments.annotations, rows, arguments.iou_type, str(arguments.results), findings, arguments.evaluator
    )
    return {"iou_type": arguments.iou_type, **scores, "data_faults": findings.counts()}


def score_coco_files(files: DataFiles, arguments: argparse.Namespace) -> dict[str, Any]:
    """Score a COCO results file on data that are named by path, as `score_coco` does."""
    arguments.annotations = files.annotations
    return score_coco(arguments)


def print_coco_scores(scores: Mapping[str, Any], console: Console) -> None:
    """Print AP by category, then COCO's statistics."""
    table = Table("category", "AP", title=f"AP by category ({scores['iou_type']})")
    for name, value in scores["per_class"].items():
        table.add_row(name, cell(value))
    console.print(table)
    for name in coco_eval.KEYPOINT_STATISTICS if scores["iou_type"] == "keypoints" else coco_eval.STATISTICS:
        console.print(f"{name:<6} {cell(scores[name])}")


def _add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--annotations", type=user_path, required=True, metavar="A.json", help="COCO annotation file")
    parser.add_argument("--results", type=user_path, required=True, metavar="R.json", help="COCO results file")
    parser.add_argument(
        "--iou-type", choices=coco_eval.IOU_TYPES, default="bbox", help="what is compared (default bbox)"
    )
    parser.add_argument(FLAG, choices=EVALUATORS, help=FLAG_HELP)
    parser.set_defaults(score=score_coco, show=print_coco_scores)


COCO = SubCommand(
    "coco",
    "a COCO results file against a COCO annotation file, by hotcoco or pycocotools",
    (
        "evaluate.py coco --annotations instances_val2017.json --results coco_instances_results.json",
        "evaluate.py coco --annotations instances_val2017.json --results results.json --iou-type segm --json",
    ),
    _add_flags,
)
