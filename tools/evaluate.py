"""Score existing detections against ground truth.

coco  a COCO results file against a COCO annotation file, by pycocotools
voc   the devkit's result files (<class>.txt, lines "image score xmin ymin xmax ymax") against a VOC folder
"""

import argparse
import json
import logging
from pathlib import Path
from typing import Any

from rich.console import Console

from common import cli
from common.score_tables import print_coco_scores, print_voc_scores, without_nan
from transfer.data.common import faults
from transfer.data.common.faults import Findings
from transfer.data.voc import records
from transfer.data.voc.records import read_voc_split
from transfer.evaluation import coco as coco_eval
from transfer.evaluation import voc as voc_eval
from transfer.evaluation.coco_results import read_coco_results
from transfer.evaluation.voc_results import read_voc_results

EXAMPLES = """examples:
  python tools/evaluate.py coco --annotations instances_val2017.json --results coco_instances_results.json
  python tools/evaluate.py coco --annotations instances_val2017.json --results results.json --iou-type segm --json
  python tools/evaluate.py voc --dataset-root VOCdevkit/VOC2012 --split val --results detections/
  python tools/evaluate.py voc --dataset-root VOCdevkit/VOC2012 --split val --results detections/ \\
      --data-rule zero_area=drop --data-rule outside=clip

All values are fractions from 0 to 1. Where there is nothing to measure (no small object, no object of a class) the
table shows "-" and --json has null.

Annotations and results are checked first; tools/check_dataset.py lists the kinds of fault and their rules. --json has
under "data_faults" the number of faults that each rule was applied to.
"""


def main() -> None:
    """Parse the command line, score, print."""
    arguments = _parser().parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")  # to standard error
    scores = arguments.score(arguments)
    if arguments.json:
        print(json.dumps(without_nan(scores), allow_nan=False))
    else:
        arguments.show(scores, Console(highlight=False))


def _parser() -> argparse.ArgumentParser:
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES, formatter_class=layout)
    kinds = parser.add_subparsers(required=True, metavar="coco|voc")
    output = argparse.ArgumentParser(add_help=False)
    output.add_argument(
        "--json", action="store_true", help="print one JSON object with unrounded numbers, nothing else"
    )
    output.add_argument(
        faults.FLAG, dest="data_rules", action="append", default=[], metavar="KIND=RULE",
        help="what to do about a kind of fault in the data; may be repeated",
    )  # fmt: skip

    coco = kinds.add_parser("coco", parents=[output], help="COCO results", epilog=EXAMPLES, formatter_class=layout)
    coco.add_argument("--annotations", type=Path, required=True, metavar="A.json", help="COCO annotation file")
    coco.add_argument("--results", type=Path, required=True, metavar="R.json", help="COCO results file")
    coco.add_argument("--iou-type", choices=coco_eval.IOU_TYPES, default="bbox", help="what is compared (default bbox)")
    coco.set_defaults(score=_score_coco, show=print_coco_scores)

    voc = kinds.add_parser("voc", parents=[output], help="VOC results", epilog=EXAMPLES, formatter_class=layout)
    voc.add_argument(
        "--dataset-root", type=Path, required=True, metavar="VOC", help="one year's folder, such as VOCdevkit/VOC2012"
    )
    voc.add_argument("--split", required=True, help="a list in ImageSets/Main, such as test")
    voc.add_argument("--results", type=Path, required=True, metavar="DIR", help="folder of <class>.txt")
    voc.set_defaults(score=_score_voc, show=print_voc_scores)
    return parser


def _score_coco(arguments: argparse.Namespace) -> dict[str, Any]:
    findings = Findings(faults.parse_rules(arguments.data_rules))
    rows = read_coco_results(arguments.results)
    scores = coco_eval.evaluate_coco(arguments.annotations, rows, arguments.iou_type, str(arguments.results), findings)
    return {"iou_type": arguments.iou_type, **scores, "data_faults": findings.counts()}


def _score_voc(arguments: argparse.Namespace) -> dict[str, Any]:
    findings = Findings(faults.parse_rules(arguments.data_rules))
    images = read_voc_split(records.VocSplit(arguments.dataset_root, arguments.split), findings)
    class_names = records.class_names_in(images)
    ground_truth = {image.image_id: image.objects for image in images}
    detections, ignored = read_voc_results(arguments.results, class_names, arguments.split, findings, ground_truth)
    if ignored:
        names = ", ".join(path.name for path in ignored)
        logging.warning("not read, no class of the data has such a file: %s", names)
    scores = voc_eval.evaluate_voc(ground_truth, detections, class_names)
    year = 2007 if "2007" in arguments.dataset_root.resolve().name else 2012
    metric = voc_eval.official_metric(year)
    official = {name: scores[metric][name] for name in ("AP", "AP50", "AP75")}
    return {"metric": metric, **official, **scores, "data_faults": findings.counts()}


if __name__ == "__main__":
    cli.run(main)
