"""The remarks that belong to a score: classes without objects, nothing to score, detections that overlap nothing."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from pretrain.runtime.errors import listed

_OVERLAP = 0.05  # IoU; detections in another scale or order of coordinates hardly ever reach it
SHOWN = 20  # classes named in one remark


def nothing_to_score(part: str) -> str:
    """Return the remark on a part, such as "box", of which the test set has no object to find."""
    return f"{part} AP: nothing to score, the test set has no object to find (crowds and difficult objects are none)"


def classes_remark(part: str, absent: Sequence[str], count: int) -> str | None:
    """Describe the classes that a mean AP leaves out because the test set has no object of them.

    Args:
        part: the name of what was scored, such as "box".
        absent: the classes without an object to find.
        count: the number of all classes.
    """
    if len(absent) == count:
        return nothing_to_score(part)
    if not absent:
        return None
    return f"{part} AP is the mean over {count - len(absent)} of {count} classes; no object of: {listed(absent, SHOWN)}"


def overlap_remark(images: Iterable[tuple[np.ndarray, np.ndarray]]) -> str | None:
    """Describe detections whose AP is 0 because they overlap no object of any class.

    Args:
        images: detected boxes (N, 4) and objects (G, 4) of each image, XYXY.
    """
    detections, best = 0, 0.0
    for detected, objects in images:
        detections += len(detected)
        if len(detected) and len(objects):
            best = max(best, float(_iou(np.asarray(detected, float), np.asarray(objects, float)).max()))
    if not detections:
        return "AP is 0: there is no detection"
    if best >= _OVERLAP:
        return None
    return (
        f"AP is 0: no detection overlaps any object (best IoU {best:.3f} of {detections} detections); are they in the "
        "pixels of the annotated images, x, y, width, height (COCO) or xmin, ymin, xmax, ymax (VOC)?"
    )


def boxes_of_images(
    content: Mapping[str, Any], detections: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the detected boxes (N, 4) and the objects (G, 4) of each image of COCO's layout, XYXY."""
    boxes: dict[Any, tuple[list[Any], list[Any]]] = {image["id"]: ([], []) for image in content["images"]}
    for place, rows in enumerate((detections, content["annotations"])):
        for row in rows:
            if row["image_id"] in boxes:
                boxes[row["image_id"]][place].append(row["bbox"])
    for pair in boxes.values():
        detected, objects = (np.array(own, dtype=float).reshape(-1, 4) for own in pair)
        for own in (detected, objects):
            own[:, 2:] += own[:, :2]
        yield detected, objects


def _iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the IoU (N, G) of boxes (N, 4) and (G, 4), XYXY; 0 where both are empty."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])  # (N, G, 2)
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = np.maximum(high - low, 0.0).prod(axis=2)  # (N, G)
    areas = [(item[:, 2] - item[:, 0]) * (item[:, 3] - item[:, 1]) for item in (boxes, others)]
    union = areas[0][:, None] + areas[1][None, :] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
