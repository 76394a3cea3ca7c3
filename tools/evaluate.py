"""Score existing detections against ground truth.

data  results against data that are named by path, in either layout
coco  a COCO results file against a COCO annotation file, by pycocotools
voc   the devkit's result files (<class>.txt, lines "image score xmin ymin xmax ymax") against a VOC folder
"""

import argparse
import json
import logging

from rich.console import Console

from common import cli
from common.score_results import score_coco, score_data, score_voc
from common.score_tables import print_coco_scores, print_voc_scores, without_nan
from pretrain.runtime.host import user_path
from transfer.data import catalog, own
from transfer.data.common import faults
from transfer.evaluation.coco import ap as coco_eval

EXAMPLES = """examples:
  python tools/evaluate.py data cells/valid --results coco_instances_results.json
  python tools/evaluate.py data my_cells_test --data cells.yaml --results detections/
  python tools/evaluate.py coco --annotations instances_val2017.json --results coco_instances_results.json
  python tools/evaluate.py coco --annotations instances_val2017.json --results results.json --iou-type segm --json
  python tools/evaluate.py voc --dataset-root VOCdevkit/VOC2012 --split val --results detections/
  python tools/evaluate.py voc --dataset-root VOCdevkit/VOC2012 --split val --results detections/ \\
      --data-rule zero_area=drop --data-rule outside=clip

All values are fractions from 0 to 1 (finetune.py and report.py print points, 0 to 100). Where there is nothing to
measure (no small object, no object of a class) the table shows "-" and --json has null.

VOC: the classes are those that occur in the split, which are PASCAL VOC's 20 where all of them do; --classes names
others. AP is the mean over the classes with objects to find, for VOC's 20 over all of them, as published.

Annotations and results are checked first; tools/check_dataset.py lists the kinds of fault and their rules. --json has
under "data_faults" the number of faults that each rule was applied to.
"""


def main() -> None:
    """Parse the command line, score, print."""
    arguments = _parser().parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")  # to standard error
    scores = arguments.score(arguments)
    for remark in scores["remarks"]:
        logging.warning("%s", remark)
    if arguments.json:
        print(json.dumps(without_nan(scores), allow_nan=False))
    else:
        arguments.show(scores, Console(highlight=False))


def _parser() -> argparse.ArgumentParser:
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES, formatter_class=layout)
    kinds = parser.add_subparsers(required=True, metavar="data|coco|voc")
    output = argparse.ArgumentParser(add_help=False)
    output.add_argument(
        "--json", action="store_true", help="print one JSON object with unrounded numbers, nothing else"
    )
    output.add_argument(
        faults.FLAG, dest="data_rules", action="append", default=[], metavar="KIND=RULE",
        help="what to do about a kind of fault in the data; may be repeated",
    )  # fmt: skip

    data = kinds.add_parser("data", parents=[output], help="data by path", epilog=EXAMPLES, formatter_class=layout)
    data.add_argument("name", metavar="PATH_OR_NAME", help=own.PATH_HELP)
    data.add_argument("--data", type=user_path, metavar="FILE.yaml", help=own.DATA_HELP)
    data.add_argument(
        "--results", type=user_path, required=True, help="a COCO results file; for VOC's layout a folder of <class>.txt"
    )
    data.add_argument("--iou-type", choices=coco_eval.IOU_TYPES, default="bbox", help="COCO: what is compared")
    data.add_argument(catalog.CLASSES_FLAG, metavar="CLASSES", help=catalog.CLASSES_HELP)
    data.set_defaults(score=score_data)

    coco = kinds.add_parser("coco", parents=[output], help="COCO results", epilog=EXAMPLES, formatter_class=layout)
    coco.add_argument("--annotations", type=user_path, required=True, metavar="A.json", help="COCO annotation file")
    coco.add_argument("--results", type=user_path, required=True, metavar="R.json", help="COCO results file")
    coco.add_argument("--iou-type", choices=coco_eval.IOU_TYPES, default="bbox", help="what is compared (default bbox)")
    coco.set_defaults(score=score_coco, show=print_coco_scores)

    voc = kinds.add_parser("voc", parents=[output], help="VOC results", epilog=EXAMPLES, formatter_class=layout)
    voc.add_argument(
        "--dataset-root",
        type=user_path,
        required=True,
        metavar="VOC",
        help="one year's folder, such as VOCdevkit/VOC2012",
    )
    voc.add_argument("--split", required=True, help="a list in ImageSets/Main, such as test")
    voc.add_argument(catalog.CLASSES_FLAG, metavar="CLASSES", help=catalog.CLASSES_HELP)
    voc.add_argument("--results", type=user_path, required=True, metavar="DIR", help="folder of <class>.txt")
    voc.set_defaults(score=score_voc, show=print_voc_scores)
    return parser


if __name__ == "__main__":
    cli.run(main)
