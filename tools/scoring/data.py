"""The scores of results on data that are named by path, of whichever layout they are."""

import argparse
from typing import Any

from common.subcommand import SubCommand
from pretrain.runtime.host import user_path
from transfer.data import catalog, own
from transfer.errors import TransferError
from transfer.evaluation.coco import ap as coco_eval
from transfer.evaluation.coco import evaluators
from transfer.evaluation.kinds import evaluation_of

from .cityscapes import print_cityscapes_scores, score_cityscapes_files
from .coco import print_coco_scores, score_coco_files
from .semantic import print_semantic_scores, score_label_map_files
from .voc import print_voc_scores, score_voc_files

# Layout -> (the function that scores results on its files, the one that prints their scores)
_LAYOUTS = {
    "coco": (score_coco_files, print_coco_scores),
    "voc": (score_voc_files, print_voc_scores),
    "cityscapes": (score_cityscapes_files, print_cityscapes_scores),
    "semantic": (score_label_map_files, print_semantic_scores),
}


def score_data(arguments: argparse.Namespace) -> dict[str, Any]:
    """Score results on data that are named by path, or by a name of a YAML file, by the metric of their layout."""
    known = own.read_data_file(arguments.data) if arguments.data else {}
    found = own.find_data(arguments.name, known)
    if found is None:
        raise TransferError(
            f"{arguments.name}: a built-in name; the sub-command of its kind, such as `coco`, scores on those data, by "
            "their paths"
        )
    if arguments.evaluator is not None:
        evaluation_of(found.format).scored_by(arguments.evaluator)  # which refuses one that this kind does not have
    score, arguments.show = _LAYOUTS[found.format]
    return score(found, arguments)


def _add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="PATH_OR_NAME", help=own.PATH_HELP)
    parser.add_argument("--data", type=user_path, metavar="FILE.yaml", help=own.DATA_HELP)
    parser.add_argument(
        "--results",
        type=user_path,
        required=True,
        help="a COCO results file; for Cityscapes a file of instance masks; for VOC's layout a folder of <class>.txt; "
        "for label maps a folder of PNG files",
    )
    parser.add_argument("--iou-type", choices=coco_eval.IOU_TYPES, default="bbox", help="COCO: what is compared")
    parser.add_argument(evaluators.FLAG, choices=evaluators.EVALUATORS, help=f"COCO: {evaluators.FLAG_HELP}")
    parser.add_argument(catalog.CLASSES_FLAG, metavar="CLASSES", help=catalog.CLASSES_HELP)
    parser.set_defaults(score=score_data)


DATA = SubCommand(
    "data",
    "results against data that are named by path, in any layout",
    (
        "evaluate.py data cells/valid --results coco_instances_results.json",
        "evaluate.py data my_cells_test --data cells.yaml --results detections/",
    ),
    _add_flags,
)
