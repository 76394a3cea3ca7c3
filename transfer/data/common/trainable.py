"""The images that a detector learns from, by the rules of both engines."""

from collections.abc import Mapping, Sequence
from typing import Any


def trainable_images(records: Sequence[Mapping[str, Any]], filter_empty: bool, min_keypoints: int = 0) -> list[int]:
    """Return the indices of the records that are trained on, in order.

    Args:
        records: Detectron2's standard dicts. Those with a label map ("sem_seg_file_name") are all trained on.
        filter_empty: leave out images that show no object, or crowds only (DATALOADER.FILTER_EMPTY_ANNOTATIONS).
        min_keypoints: leave out images with fewer labelled keypoints (MIN_KEYPOINTS_PER_IMAGE of a keypoint detector).
    """
    return [
        index
        for index, record in enumerate(records)
        if "sem_seg_file_name" in record or _has_objects(record, filter_empty, min_keypoints)
    ]


def _has_objects(record: Mapping[str, Any], filter_empty: bool, min_keypoints: int) -> bool:
    if filter_empty and all(item.get("iscrowd", 0) for item in record["annotations"]):
        return False
    return not min_keypoints or _labelled_keypoints(record) >= min_keypoints


def _labelled_keypoints(record: Mapping[str, Any]) -> int:
    return sum(visibility > 0 for item in record["annotations"] for visibility in item.get("keypoints", ())[2::3])
