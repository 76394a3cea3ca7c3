"""The scores of a DensePose results file against an annotation file of DensePose-COCO."""

import argparse
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from common.subcommand import SubCommand
from pretrain.runtime.host import user_path
from transfer.data.common import faults
from transfer.data.common.faults import Findings
from transfer.data.densepose.annotation_file import body_folder
from transfer.data.densepose.body_files import ADDRESS, EVALUATION_FILES
from transfer.data.densepose.body_model import read_body_model
from transfer.evaluation.coco.results import read_coco_results
from transfer.evaluation.densepose import ap

from .numbers import cell


def score_densepose(arguments: argparse.Namespace) -> dict[str, Any]:
    """Score a DensePose results file by GPS; return its scores, remarks and the faults of the data by rule."""
    findings = Findings(faults.parse_rules(arguments.data_rules))
    rows = read_coco_results(arguments.results)
    body = read_body_model(arguments.body or body_folder(arguments.annotations))
    scores = ap.evaluate_densepose(arguments.annotations, rows, body, str(arguments.results), findings)
    return {"metric": "GPS", **scores, "data_faults": findings.counts()}


def print_densepose_scores(scores: Mapping[str, Any], console: Console) -> None:
    """Print AP by category, then the statistics of all."""
    table = Table("category", "AP", title="AP by category (GPS)")
    for name, value in scores["per_class"].items():
        table.add_row(name, cell(value))
    console.print(table)
    for name in ap.STATISTICS:
        console.print(f"{name:<6} {cell(scores[name])}")


def _add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--annotations", type=user_path, required=True, metavar="A.json", help="annotation file of DensePose-COCO"
    )
    parser.add_argument(
        "--results", type=user_path, required=True, metavar="R.json", help="results in the form of the challenge"
    )
    parser.add_argument(
        "--body", type=user_path, metavar="DIR",
        help="folder of the body's files (default: densepose/ beside the coco/ of the annotations)",
    )  # fmt: skip
    parser.set_defaults(score=score_densepose, show=print_densepose_scores)


DENSEPOSE = SubCommand(
    "densepose",
    "a DensePose results file against an annotation file of DensePose-COCO, by GPS",
    ("evaluate.py densepose --annotations densepose_minival2014.json --results found.json --body densepose",),
    _add_flags,
    f"DensePose: {', '.join(EVALUATION_FILES)} must be on disk. They are at\n"
    f"{ADDRESS}/ under CC BY-NC 4.0. A row of results has image_id, category_id,\n"
    "score, bbox, uv_shape and uv_data (a PNG of part, U and V in base64), as in the challenge of 2018.",
)
