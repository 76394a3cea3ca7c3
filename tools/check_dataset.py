"""Find the faults of annotations and results before training or evaluation does.

voc   the XML files of one split of a VOC folder, its images, and the devkit's result files
coco  an annotation file in COCO layout, its images, and a COCO results file
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from common import cli
from pretrain.runtime.progress import track
from transfer.data import faults as data_rules
from transfer.data.coco.annotation_file import examine_coco_annotations
from transfer.data.faults import KINDS, Fault, Findings
from transfer.data.images import StatedImage, check_image_files
from transfer.data.voc import records
from transfer.data.voc.records import examine_voc_split
from transfer.errors import TransferError
from transfer.evaluation import coco_results, voc_results

FOUND = 1  # exit code where there are faults, and the rules settle them all
SHOWN = 10  # faults of a kind, unless all are asked for

_KINDS = "\n".join(f"  {name:<14} {'|'.join(kind.rules):<24} {kind.meaning}" for name, kind in KINDS.items())
EXAMPLES = f"""examples:
  python tools/check_dataset.py voc --dataset-root VOCdevkit/VOC2007 --split trainval
  python tools/check_dataset.py voc --dataset-root VOCdevkit/VOC2007 --split test --results detections/
  python tools/check_dataset.py coco --annotations instances_val2017.json --images val2017
  python tools/check_dataset.py coco --annotations instances_val2017.json --results found.json --iou-type segm
  python tools/check_dataset.py coco --annotations mine.json --rule outside=clip --rule zero_area=drop --all

kinds of fault, and the rules to choose from, the default first (--data-rule of finetune and evaluate takes the same):
{_KINDS}

exit code: 0 no fault, 1 faults that the rules settle, 2 faults that are refused
"""


def main() -> None:
    """Check what the command line names, list the faults, end with the exit code."""
    arguments = _parser().parse_args()
    findings = Findings(data_rules.parse_rules(arguments.rules))
    checked = arguments.check(arguments, findings)
    for line in listed(findings.faults, None if arguments.all else SHOWN):
        print(line)
    refused = findings.refused()
    print(f"{checked}; {len(findings.faults)} faults, {len(refused)} of them refused", flush=True)
    if refused:
        choices = data_rules.rule_advice(refused)
        raise TransferError(f"{len(refused)} faults are refused" + (f" ({choices})" if choices else ""))
    if findings.faults:
        sys.exit(FOUND)


def _parser() -> argparse.ArgumentParser:
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES, formatter_class=layout)
    layouts = parser.add_subparsers(required=True, metavar="voc|coco")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--rule", data_rules.FLAG, dest="rules", action="append", default=[], metavar="KIND=RULE",
        help="what to do about a kind of fault; may be repeated",
    )  # fmt: skip
    common.add_argument("--all", action="store_true", help=f"list every fault, not {SHOWN} of a kind")

    voc = layouts.add_parser("voc", parents=[common], help="VOC layout", epilog=EXAMPLES, formatter_class=layout)
    voc.add_argument(
        "--dataset-root", type=Path, required=True, metavar="VOC", help="one year's folder, such as VOCdevkit/VOC2012"
    )
    voc.add_argument("--split", required=True, help="a list in ImageSets/Main, such as trainval")
    voc.add_argument("--classes", nargs="+", metavar="NAME", help="the classes that there may be (default: any)")
    voc.add_argument("--no-images", action="store_true", help="do not look at JPEGImages/")
    voc.add_argument("--results", type=Path, metavar="DIR", help="also check a folder of <class>.txt")
    voc.set_defaults(check=check_voc)

    coco = layouts.add_parser("coco", parents=[common], help="COCO layout", epilog=EXAMPLES, formatter_class=layout)
    coco.add_argument("--annotations", type=Path, required=True, metavar="A.json", help="COCO annotation file")
    coco.add_argument("--images", type=Path, metavar="DIR", help="also check the images, which lie in this folder")
    coco.add_argument("--results", type=Path, metavar="R.json", help="also check a COCO results file")
    coco.add_argument(
        "--iou-type", choices=coco_results.SCORED_FIELD, default="bbox", help="what of the results (default bbox)"
    )
    coco.set_defaults(check=check_coco)
    return parser


def listed(faults: Sequence[Fault], shown: int | None) -> Iterator[str]:
    """The faults by kind, under a line with the count and rule of each; at most `shown` of a kind."""
    for kind in KINDS:
        own = [fault for fault in faults if fault.kind == kind]
        if own:
            yield f"{kind}: {len(own)} {KINDS[kind].meaning}; rule: {own[0].rule}"
            yield from (f"  {fault}" for fault in own[:shown])
            if shown is not None and len(own) > shown:
                yield f"  ... and {len(own) - shown} more (--all lists them)"


def check_voc(arguments: argparse.Namespace, findings: Findings) -> str:
    """Check a VOC split; returns what was looked at."""
    folder = arguments.dataset_root
    images = examine_voc_split(records.VocSplit(folder, arguments.split), findings, arguments.classes)
    if not arguments.no_images:
        _check_voc_images(folder, images, findings)
    if arguments.results is not None:
        names = arguments.classes or records.class_names_in(images)
        image_ids = [image.image_id for image in images]
        voc_results.examine_voc_results(arguments.results, names, arguments.split, findings, image_ids)
    return _contents(len(images), Counter(item.name for image in images for item in image.objects))


def check_coco(arguments: argparse.Namespace, findings: Findings) -> str:
    """Check a COCO annotation file; returns what was looked at."""
    content = examine_coco_annotations(arguments.annotations, findings)
    if content is None:
        return "0 images"
    if arguments.images is not None:
        stated = [
            StatedImage(
                f"{arguments.annotations}: image id {image['id']}",
                arguments.images / image["file_name"],
                (image["height"], image["width"]),
            )
            for image in content["images"]
        ]
        check_image_files(_watched(stated), findings)
    if arguments.results is not None:
        _check_rows(arguments.results, content, arguments.iou_type, findings)
    names = {category["id"]: category["name"] for category in content["categories"]}
    objects = Counter(names.get(item["category_id"], "?") for item in content["annotations"])
    return _contents(len(content["images"]), objects)


def _check_rows(path: Path, content: dict[str, Any], iou_type: str, findings: Findings) -> None:
    try:
        rows = coco_results.read_coco_results(path)
    except TransferError as error:
        findings.add("file", str(path), str(error).removeprefix(f"{path}: "))
    else:
        coco_results.apply_rules_to_detections(rows, content, iou_type, str(path), findings)


def _check_voc_images(folder: Path, images: Sequence[records.VocImage], findings: Findings) -> None:
    try:
        files = records.image_files(folder)
    except TransferError as error:
        findings.add("file", str(folder), str(error).removeprefix(f"{folder}: "))
        return
    stated = [
        StatedImage(
            str(folder / "Annotations" / f"{image.image_id}.xml"),
            files.get(image.image_id, folder / "JPEGImages" / f"{image.image_id}.jpg"),
            image.size,
        )
        for image in images
    ]
    check_image_files(_watched(stated), findings)


def _watched(images: Sequence[StatedImage]) -> Iterable[StatedImage]:
    return track(images, "images")


def _contents(images: int, objects: Counter[str]) -> str:
    by_class = ", ".join(f"{name} {count}" for name, count in objects.most_common())
    return f"{images} images, {objects.total()} objects ({by_class or 'none'})"


if __name__ == "__main__":
    cli.run(main)
