"""Find the faults of annotations and results before training or evaluation does.

data  files and folders of annotated data, in either layout, as --train and --test of finetune.py take them
voc   the XML files of one split of a VOC folder, its images, and the devkit's result files
coco  an annotation file in COCO layout, its images, and a COCO results file
"""

import argparse
import sys

from common import cli
from common.dataset_check import check_coco, check_data, check_voc, fault_lines
from pretrain.runtime.host import user_path
from transfer.data import catalog, own
from transfer.data.common import faults as data_rules
from transfer.data.common.detector_needs import MAX_SIZE
from transfer.data.common.faults import KINDS, Findings
from transfer.errors import TransferError
from transfer.evaluation.coco.results import SCORED_FIELD

FOUND = 1  # exit code where there are faults, and the rules accept or mend them all
SHOWN = 10  # faults of a kind, unless all are asked for

_KINDS = "\n".join(f"  {name:<15} {'|'.join(kind.rules):<26} {kind.meaning}" for name, kind in KINDS.items())
EXAMPLES = f"""examples:
  python tools/check_dataset.py data cells/train cells/valid
  python tools/check_dataset.py data --data cells.yaml
  python tools/check_dataset.py voc --dataset-root VOCdevkit/VOC2007 --split trainval
  python tools/check_dataset.py voc --dataset-root VOCdevkit/VOC2007 --split test --results detections/
  python tools/check_dataset.py coco --annotations instances_val2017.json --images val2017
  python tools/check_dataset.py coco --annotations instances_val2017.json --results found.json --iou-type segm
  python tools/check_dataset.py coco --annotations mine.json --rule outside=clip --rule zero_area=drop --all

kinds of fault, and the rules to choose from, the default first (--data-rule of finetune and evaluate takes the same):
{_KINDS}

exit code: 0 no fault, 1 faults that the rules accept or mend, 2 faults that are refused
"""


def main() -> None:
    """Check what the command line names, list the faults, end with the exit code."""
    arguments = _parser().parse_args()
    findings = Findings(_rules(data_rules.parse_rules(arguments.rules), arguments.masks))
    checked = arguments.check(arguments, findings)
    for line in fault_lines(findings.faults, None if arguments.all else SHOWN):
        print(line)
    refused = findings.refused()
    print(f"{checked}; {len(findings.faults)} faults, {len(refused)} of them refused", flush=True)
    if refused:
        choices = findings.advice()
        raise TransferError(f"{len(refused)} faults are refused" + (f" ({choices})" if choices else ""))
    if findings.faults:
        sys.exit(FOUND)


def _rules(rules: dict[str, str], masks: str | None) -> dict[str, str]:
    """Return the rules for a detector with these masks; None: with masks as polygons, if the data have any masks."""
    needed = data_rules.rules_for(rules, masks=masks != "no", polygons=masks in (None, "polygon"))
    return needed if masks else {**needed, "boxes_only": rules.get("boxes_only", "allow")}


def _parser() -> argparse.ArgumentParser:
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES, formatter_class=layout)
    layouts = parser.add_subparsers(required=True, metavar="data|voc|coco")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--rule", data_rules.FLAG, dest="rules", action="append", default=[], metavar="KIND=RULE",
        help="what to do about a kind of fault; may be repeated",
    )  # fmt: skip
    common.add_argument(
        "--headers-only", action="store_true", help="read the headers of the images, do not decode their pixels"
    )
    common.add_argument(
        "--max-size", type=int, default=MAX_SIZE, metavar="N",
        help=f"INPUT.MAX_SIZE_TRAIN and MAX_SIZE_TEST, for images too narrow (default {MAX_SIZE})",
    )  # fmt: skip
    common.add_argument("--all", action="store_true", help=f"list every fault, not {SHOWN} of a kind")

    data = layouts.add_parser("data", parents=[common], help="data by path", epilog=EXAMPLES, formatter_class=layout)
    data.add_argument("names", nargs="*", metavar="PATH_OR_NAME", help=own.PATH_HELP)
    data.add_argument("--data", type=user_path, metavar="FILE.yaml", help=own.DATA_HELP)
    data.add_argument(catalog.CLASSES_FLAG, metavar="CLASSES", help=catalog.CLASSES_HELP)
    data.set_defaults(check=check_data, masks=None, no_images=False, results=None)

    voc = layouts.add_parser("voc", parents=[common], help="VOC layout", epilog=EXAMPLES, formatter_class=layout)
    voc.add_argument(
        "--dataset-root",
        type=user_path,
        required=True,
        metavar="VOC",
        help="one year's folder, such as VOCdevkit/VOC2012",
    )
    voc.add_argument("--split", required=True, help="a list in ImageSets/Main, such as trainval")
    voc.add_argument(catalog.CLASSES_FLAG, metavar="CLASSES", help=catalog.CLASSES_HELP)
    voc.add_argument("--no-images", action="store_true", help="do not look at JPEGImages/")
    voc.add_argument("--results", type=user_path, metavar="DIR", help="also check a folder of <class>.txt")
    voc.set_defaults(check=check_voc, masks="no")

    coco = layouts.add_parser("coco", parents=[common], help="COCO layout", epilog=EXAMPLES, formatter_class=layout)
    coco.add_argument("--annotations", type=user_path, required=True, metavar="A.json", help="COCO annotation file")
    coco.add_argument("--images", type=user_path, metavar="DIR", help="also check the images, which lie in this folder")
    coco.add_argument("--results", type=user_path, metavar="R.json", help="also check a COCO results file")
    coco.add_argument("--iou-type", choices=SCORED_FIELD, default="bbox", help="what of the results (default bbox)")
    coco.add_argument(
        "--masks", choices=("polygon", "bitmask", "no"), default=None,
        help="INPUT.MASK_FORMAT, or no where boxes alone are trained (default polygon, no for a file without masks)",
    )  # fmt: skip
    coco.set_defaults(check=check_coco)
    return parser


if __name__ == "__main__":
    cli.run(main)
