"""The two programs that compute COCO's AP: pycocotools, the record, and hotcoco, which has its numbers far sooner.

Both see only what has been checked: pycocotools crashes on bad data, hotcoco scores them without a word.
"""

import contextlib
import importlib.metadata
import importlib.util
import io
from collections.abc import Mapping, Sequence
from typing import Any

import pycocotools.mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from transfer.data.common import rle
from transfer.errors import TransferError

FLAG = "--evaluator"
HOTCOCO, PYCOCOTOOLS = "hotcoco", "pycocotools"
EVALUATORS = (HOTCOCO, PYCOCOTOOLS)
FLAG_HELP = (
    f"computes COCO's AP: {PYCOCOTOOLS} is the record, {HOTCOCO} gives the same numbers to the bit in a fraction of "
    f"the time (default: {HOTCOCO} where it is installed)"
)
# What the evaluators read of an annotation and of a detection, by IoU type.
_FIELDS = {
    "bbox": ("bbox", "area", "iscrowd"),
    "segm": ("segmentation", "area", "iscrowd"),
    "keypoints": ("keypoints", "bbox", "area", "iscrowd"),
}


def choose_evaluator(asked: str | None = None) -> str:
    """Return the evaluator to use, one of EVALUATORS: the one that is asked for, else hotcoco where it is installed.

    Raises:
        TransferError: there is no such evaluator, or it is not installed.
    """
    installed = importlib.util.find_spec(HOTCOCO) is not None
    if asked is None:
        return HOTCOCO if installed else PYCOCOTOOLS
    if asked not in EVALUATORS:
        raise TransferError(f"{FLAG} {asked}: one of {', '.join(EVALUATORS)} is expected")
    if asked == HOTCOCO and not installed:
        raise TransferError(
            f"{FLAG} {HOTCOCO}: it is not installed here: `pip install {HOTCOCO}`, or leave the flag out: "
            f"{PYCOCOTOOLS} gives the same numbers"
        )
    return asked


def describe_evaluator(evaluator: str) -> str:
    """Return an evaluator with its version, such as "hotcoco 1.3.0"."""
    return f"{evaluator} {importlib.metadata.version(evaluator)}"


def evaluate(
    evaluator: str, content: Mapping[str, Any], detections: Sequence[Mapping[str, Any]], iou_type: str
) -> COCOeval:
    """Evaluate checked detections against the content of a checked annotation file.

    Args:
        evaluator: one of EVALUATORS.
        content: of the annotation file, as `read_coco_annotations` returns it.
        detections: {image_id, category_id, score, and bbox XYWH | segmentation (run-length) | keypoints}.
        iou_type: "bbox", "segm" or "keypoints".

    Returns:
        pycocotools' object with `stats`, `eval` (precision (T, R, C, A, M), recall (T, C, A, M)) and `params`, whoever
        has computed them.
    """
    with contextlib.redirect_stdout(io.StringIO()):  # they report their progress by print
        if evaluator == HOTCOCO:
            evaluation = _evaluate_by_hotcoco(content, detections, iou_type)
        else:
            ground_truth = index_ground_truth(content)
            evaluation = COCOeval(ground_truth, index_detections(ground_truth, detections, iou_type), iou_type)
            evaluation.evaluate()
            evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def _evaluate_by_hotcoco(
    content: Mapping[str, Any], detections: Sequence[Mapping[str, Any]], iou_type: str
) -> COCOeval:
    """Return pycocotools' object with the precision and recall that hotcoco has computed.

    The means over them, COCO's statistics, are then pycocotools' own.
    """
    import hotcoco  # an extra

    fields = _FIELDS[iou_type]
    annotations = _annotations_of(detections, iou_type)
    counted = "num_keypoints" if iou_type == "keypoints" else "iscrowd"
    by_hotcoco = hotcoco.COCOeval(
        hotcoco.COCO(_numbered(content, content["annotations"], (*fields, counted))),
        hotcoco.COCO(_numbered(content, annotations, (*fields, "score"))),
        iou_type,
    )
    by_hotcoco.evaluate()
    by_hotcoco.accumulate()
    evaluation = COCOeval(iouType=iou_type)
    evaluation.params.catIds = sorted(category["id"] for category in content["categories"])
    computed = by_hotcoco.eval or {}
    evaluation.eval = {name: computed[name] for name in ("precision", "recall")}
    return evaluation


def _numbered(
    content: Mapping[str, Any], annotations: Sequence[Mapping[str, Any]], fields: Sequence[str]
) -> dict[str, Any]:
    """Return annotations, with these fields, beside the images and categories of an annotation file.

    hotcoco reads ids from 0 up only: all get numbers in the order of their ids, by which both evaluators go.
    """
    images = {image["id"]: image for image in content["images"]}
    image_numbers = {image_id: number for number, image_id in enumerate(sorted(images), start=1)}
    category_ids = sorted(category["id"] for category in content["categories"])
    category_numbers = {category_id: number for number, category_id in enumerate(category_ids, start=1)}
    return {
        "images": [
            {"id": number, "height": images[image_id]["height"], "width": images[image_id]["width"]}
            for image_id, number in image_numbers.items()
        ],
        "categories": [{"id": number, "name": str(number)} for number in category_numbers.values()],
        "annotations": [
            {
                "id": number,
                "image_id": image_numbers[annotation["image_id"]],
                "category_id": category_numbers[annotation["category_id"]],
                **{field: annotation[field] for field in fields},
            }
            for number, annotation in enumerate(annotations, start=1)
        ],
    }


def index_ground_truth(content: Mapping[str, Any]) -> COCO:
    """Index the content of an annotation file, as `read_coco_annotations` returns it, for pycocotools."""
    annotations = [dict(annotation) for annotation in content["annotations"]]  # pycocotools writes into them
    if any(annotation["id"] < 1 for annotation in annotations):
        for number, annotation in enumerate(annotations, start=1):
            annotation["id"] = number  # pycocotools reads a match with id 0 as no match
    return _index({**content, "annotations": annotations})


def index_detections(ground_truth: COCO, detections: Sequence[Mapping[str, Any]], iou_type: str) -> COCO:
    """Index detections as COCO.loadRes does in Detectron2's evaluator (areas!), also when there are none."""
    return _index({**ground_truth.dataset, "annotations": _annotations_of(detections, iou_type)})


def _annotations_of(detections: Sequence[Mapping[str, Any]], iou_type: str) -> list[dict[str, Any]]:
    """Return the annotations that COCO.loadRes makes of detections in Detectron2's evaluator."""
    annotations = []
    for number, detection in enumerate(detections, start=1):
        made = {key: detection[key] for key in ("image_id", "category_id", "score")}
        made.update(id=number, iscrowd=0)
        if iou_type == "segm":
            made["segmentation"] = rle.compress_mask(detection["segmentation"])
            made["area"] = float(pycocotools.mask.area(made["segmentation"]))
        else:
            made["bbox"] = list(detection["bbox"]) if "bbox" in detection else _extent(detection["keypoints"])
            made["area"] = made["bbox"][2] * made["bbox"][3]
        if iou_type == "keypoints":
            made["keypoints"] = list(detection["keypoints"])
        annotations.append(made)
    return annotations


def _extent(keypoints: Sequence[float]) -> list[float]:
    """Return the box XYWH around keypoints [x, y, score, ...]."""
    x, y = keypoints[0::3], keypoints[1::3]
    return [min(x), min(y), max(x) - min(x), max(y) - min(y)]


def _index(dataset: dict[str, Any]) -> COCO:
    coco = COCO()
    coco.dataset = dataset
    coco.createIndex()
    return coco
