"""The images that a detector learns from, by the rules of both engines."""

from collections.abc import Mapping, Sequence
from typing import Any


def trainable_images(records: Sequence[Mapping[str, Any]], filter_empty: bool, min_keypoints: int = 0) -> list[int]:
    """Return the indices of the records that are trained on, in order.

    Args:
        records: Detectron2's standard dicts.
        filter_empty: leave out images that show no object, or crowds only (DATALOADER.FILTER_EMPTY_ANNOTATIONS).
        min_keypoints: leave out images with fewer labelled keypoints (MIN_KEYPOINTS_PER_IMAGE of a keypoint detector).
    """
    return [
        index
        for index, record in enumerate(records)
        if (not filter_empty or any(not item.get("iscrowd", 0) for item in record["annotations"]))
        and (not min_keypoints or _labelled_keypoints(record) >= min_keypoints)
    ]


def _labelled_keypoints(record: Mapping[str, Any]) -> int:
    return sum(visibility > 0 for item in record["annotations"] for visibility in item.get("keypoints", ())[2::3])
