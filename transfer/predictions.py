"""The predictions of a model for one image, detections or a map of classes, and their form in files of results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pycocotools.mask

if TYPE_CHECKING:  # the parser of a command line needs no torch, which takes seconds to import
    from torch import Tensor


@dataclass(frozen=True)
class Detections:
    """The detections of ONE image, on the CPU, in descending order of score.

    Args:
        boxes: (N, 4) float32, XYXY in pixels of the image as read (EXIF orientation applied); x2 and y2 are edges.
        scores: (N,) float32.
        classes: (N,) int64, zero-based index into the data set's class names.
        masks: (N, H, W) bool in the same pixels, or None where the model has no mask head.
        keypoints: (N, K, 3) float32 x, y, score in the same pixels, 0.5 the middle of the first one; or None.
        iuv: of each detection (3, h, w) uint8 on the pixels of its box, rounded down to whole sides: the part of the
            body (0: none) and 255 times U and V in its chart; or None.
    """

    boxes: Tensor
    scores: Tensor
    classes: Tensor
    masks: Tensor | None = None
    keypoints: Tensor | None = None
    iuv: Sequence[Tensor] | None = None

    def __len__(self) -> int:
        return len(self.boxes)


@dataclass(frozen=True)
class LabelMap:
    """The class of every pixel of ONE image, on the CPU, in the pixels of the image as read (EXIF applied).

    Args:
        classes: (H, W) of an integer type, zero-based index into the data set's class names.
        logits: (K, H, W) float32, of which `classes` is the arg max; None where nobody asked for them.
    """

    classes: Tensor
    logits: Tensor | None = None


# Records of a data set in (only file_name is read), run as one zero-padded batch; out: predictions in their pixels,
# all of one type.
Predict = Callable[[list[dict[str, Any]]], Sequence[Detections | LabelMap]]


@dataclass(frozen=True)
class Predictor:
    """A model that is ready to run, as a `Predict` in two parts, of which other processes can do the first ahead.

    Args:
        read: a record -> its image, read, checked and resized; it can be pickled, and so can what it returns.
        run: the images of a batch -> their predictions.
    """

    read: Callable[[dict[str, Any]], Any]
    run: Callable[[list[Any]], Sequence[Detections | LabelMap]]

    def __call__(self, records: list[dict[str, Any]]) -> Sequence[Detections | LabelMap]:
        return self.run([self.read(record) for record in records])


def coco_detections(detections: Detections, image_id: int | str, category_ids: Sequence[int]) -> list[dict[str, Any]]:
    """Convert detections to the form of a COCO results file, ready for JSON and unrounded.

    Args:
        detections: those of one image.
        image_id: the annotation file's id of that image.
        category_ids: the annotation file's id of each class, indexed by `detections.classes`.

    Returns:
        One dict for each detection, in order: image_id, category_id, bbox XYWH, score; with masks segmentation, a
        run-length mask with ASCII counts; with keypoints a list x, y, score, x and y as COCO's indices of pixels.
    """
    boxes = detections.boxes.double()  # the difference of two float32 is exact in float64, so x + w gives x2 back
    boxes[:, 2:] -= boxes[:, :2]  # (N, 4) XYWH
    found = [
        {"image_id": image_id, "category_id": int(category_ids[index]), "bbox": box, "score": score}
        for box, score, index in zip(
            boxes.tolist(), detections.scores.tolist(), detections.classes.tolist(), strict=True
        )
    ]
    if detections.masks is not None:
        for detection, mask in zip(found, detections.masks, strict=True):
            detection["segmentation"] = _run_length(mask)
    if detections.keypoints is not None:
        indices = detections.keypoints.double() - detections.keypoints.new_tensor([0.5, 0.5, 0.0])  # (N, K, 3)
        for detection, points in zip(found, indices.flatten(1).tolist(), strict=True):
            detection["keypoints"] = points
    return found


def coco_annotations(
    images: Mapping[int | str, Mapping[str, Any]], rows: Sequence[Mapping[str, Any]], names: Mapping[int, str]
) -> dict[str, Any]:
    """Convert rows of a COCO results file to the content of an annotation file, which annotation tools import.

    Args:
        images: {id, file_name, width, height} by `image_id` of the rows.
        rows: of `coco_detections`; keypoints, which an annotation file has with a visibility, are left out.
        names: of the categories, by id.

    Returns:
        images, categories and annotations: each row with an id from 1, its area in pixels and its score.
    """
    annotations = []
    for number, row in enumerate(rows, start=1):
        mask = row.get("segmentation")
        area = row["bbox"][2] * row["bbox"][3] if mask is None else float(pycocotools.mask.area(mask))
        kept = {key: row[key] for key in ("category_id", "bbox", "score")}
        kept["image_id"] = images[row["image_id"]]["id"]
        annotations.append({"id": number, **kept, "segmentation": mask or [], "area": area, "iscrowd": 0})
    categories = [{"id": category_id, "name": name} for category_id, name in names.items()]
    return {"images": list(images.values()), "categories": categories, "annotations": annotations}


def label_map_rows(label_map: LabelMap, image_id: int | str, category_ids: Sequence[int]) -> list[dict[str, Any]]:
    """Convert a map of classes to the rows that Detectron2 saves of one, ready for JSON; no pixel is lost.

    Args:
        label_map: that of one image.
        image_id: the data set's id of that image.
        category_ids: the id of each class, indexed by `label_map.classes`.

    Returns:
        One dict for each class that occurs, by its index: image_id, category_id, segmentation as a run-length mask.
    """
    return [
        {
            "image_id": image_id,
            "category_id": int(category_ids[index]),
            "segmentation": _run_length(label_map.classes == index),
        }
        for index in label_map.classes.unique().tolist()
    ]


def _run_length(mask: Tensor) -> dict[str, Any]:
    """Encode a mask (H, W) bool by COCO's compressed run lengths."""
    encoded = pycocotools.mask.encode(np.asfortranarray(mask.numpy().astype(np.uint8)))
    return {"size": [int(side) for side in encoded["size"]], "counts": encoded["counts"].decode("ascii")}
