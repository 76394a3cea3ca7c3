"""The check of an annotation file of DensePose-COCO, its images and a DensePose results file."""

import argparse
from collections import Counter

from common.subcommand import SubCommand
from pretrain.runtime.host import user_path
from transfer.data.common.faults import Findings
from transfer.data.densepose.annotation_file import examine_people
from transfer.data.densepose.points import has_points
from transfer.errors import TransferError
from transfer.evaluation.coco.results import read_coco_results
from transfer.evaluation.densepose.results import apply_rules_to_rows

from .coco import check_coco_content
from .lines import contents_line


def check_densepose(arguments: argparse.Namespace, findings: Findings) -> str:
    """Check an annotation file of DensePose-COCO; return a summary of its contents."""
    content = examine_people(arguments.annotations, findings)
    if content is None:
        return "0 images"
    check_coco_content(arguments.annotations, content, arguments.images, arguments, findings)
    if (path := arguments.results) is not None:
        try:
            apply_rules_to_rows(read_coco_results(path), content, str(path), findings)
        except TransferError as error:
            findings.add("file", str(path), str(error).removeprefix(f"{path}: "))
    names = {category["id"]: category["name"] for category in content["categories"]}
    people = content["annotations"]
    objects = Counter(names.get(person["category_id"], "?") for person in people)
    return f"{contents_line(len(content['images']), objects)}, {sum(map(has_points, people))} of them with points"


def _add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--annotations", type=user_path, required=True, metavar="A.json", help="annotation file of DensePose-COCO"
    )
    parser.add_argument(
        "--images", type=user_path, metavar="DIR", help="also check the images, which lie in this folder"
    )
    parser.add_argument("--results", type=user_path, metavar="R.json", help="also check a DensePose results file")
    parser.set_defaults(check=check_densepose, masks="no")


DENSEPOSE = SubCommand(
    "densepose",
    "an annotation file of DensePose-COCO, its images, and a DensePose results file",
    ("check_dataset.py densepose --annotations densepose_minival2014.json --images coco/val2014",),
    _add_flags,
)
