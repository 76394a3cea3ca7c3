"""The remarks that belong to a score by VOC's metric."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pretrain.runtime.errors import listed
from transfer.data.voc.records import CLASS_NAMES, VocObject
from transfer.evaluation.common.remarks import SHOWN, classes_remark, nothing_to_score, overlap_remark
from transfer.evaluation.voc.ap import ClassDetections, classes_without_objects


def devkit_remark(absent: Sequence[str], count: int, occurring: float) -> str | None:
    """Describe the classes without objects that VOC's own convention counts, as `classes_remark` does.

    Args:
        occurring: the AP over the other classes, in [0, 1].
    """
    if len(absent) == count:
        return nothing_to_score("box")
    if not absent:
        return None
    return (
        f"box AP counts all {count} classes, as PASCAL VOC's evaluation does; over the {count - len(absent)} that the "
        f"test set has objects of it is {100 * occurring:.2f} points (0 to 100). No object of: {listed(absent, SHOWN)}"
    )


def voc_remarks(
    ground_truth: Mapping[str, Sequence[VocObject]], detections: Mapping[str, ClassDetections], score: Mapping[str, Any]
) -> tuple[str, ...]:
    """Return the remarks on a score: classes without objects, detections that overlap nothing.

    Args:
        score: of one metric, an entry of `evaluate_voc`.
    """
    names = tuple(score["per_class"])
    absent = classes_without_objects(ground_truth, names)
    if names == CLASS_NAMES:
        made = [devkit_remark(absent, len(names), score["with_ground_truth"]["AP"])]
    else:
        made = [classes_remark("box", absent, len(names))]
    if score["with_ground_truth"]["AP50"] == 0:
        boxes: dict[str, list[np.ndarray]] = {image_id: [] for image_id in ground_truth}
        for found in detections.values():
            for image_id, box in zip(found.image_ids, found.boxes, strict=True):
                boxes[image_id].append(box)
        made.append(
            overlap_remark(
                (np.array(boxes[image_id]).reshape(-1, 4), np.array([item.box for item in objects]).reshape(-1, 4))
                for image_id, objects in ground_truth.items()
            )
        )
    return tuple(filter(None, made))
