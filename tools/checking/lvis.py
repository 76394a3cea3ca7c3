"""The check of an annotation file of LVIS, its images and a COCO results file."""

import argparse
from collections import Counter
from typing import Any

from common.subcommand import SubCommand
from pretrain.runtime.host import user_path
from transfer.data.common.faults import Findings
from transfer.data.lvis.annotation_file import FREQUENCIES, examine_lvis_annotations, lvis_rules
from transfer.evaluation.lvis.ap import IOU_TYPES

from .coco import check_coco_content, check_coco_results


def check_lvis(arguments: argparse.Namespace, findings: Findings) -> str:
    """Check an annotation file of LVIS; return a summary of its contents."""
    content = examine_lvis_annotations(arguments.annotations, findings)
    if content is None:
        return "0 images"
    check_coco_content(arguments.annotations, content, arguments.images, arguments, findings)
    check_coco_results(content, arguments, findings)
    return _contents(content)


def _contents(content: dict[str, Any]) -> str:
    """Describe a file: of over a thousand categories, the number of those with objects by frequency."""
    objects = Counter(item["category_id"] for item in content["annotations"])
    found = Counter(str(one.get("frequency")) for one in content["categories"] if objects[one["id"]])
    of = Counter(str(one.get("frequency")) for one in content["categories"])
    groups = ", ".join(f"{found[key]} of {of[key]} {title}" for key, title in FREQUENCIES.items())
    lists = [image.get("neg_category_ids") for image in content["images"]]
    negatives = sum(len(ids) for ids in lists if isinstance(ids, list))
    return (
        f"{len(content['images'])} images, {objects.total()} objects of {len(objects)} categories ({groups}), "
        f"{negatives} times a category was verified to be absent"
    )


def _add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--annotations", type=user_path, required=True, metavar="A.json", help="LVIS annotation file")
    parser.add_argument(
        "--images",
        type=user_path,
        metavar="DIR",
        help="also check the images: the folder with val2017/ and so on",
    )
    parser.add_argument("--results", type=user_path, metavar="R.json", help="also check a COCO results file")
    parser.add_argument("--iou-type", choices=IOU_TYPES, default="bbox", help="what of the results (default bbox)")
    parser.set_defaults(check=check_lvis, masks="polygon", kind_rules=lvis_rules({}))


LVIS = SubCommand(
    "lvis",
    "an annotation file of LVIS, its images, and a COCO results file",
    ("check_dataset.py lvis --annotations lvis_v1_val.json --images datasets/coco",),
    _add_flags,
)
