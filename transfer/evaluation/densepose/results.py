"""The rows of a DensePose results file, as the COCO challenge of 2018 has them, checked before they are scored."""

import base64
import binascii
import io
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from transfer.data.common.faults import GONE, Findings
from transfer.data.densepose.body_model import PARTS
from transfer.evaluation.coco.results import row_faults

MOST = 20  # detections of an image and a class that are scored
_FIELDS = ("image_id", "category_id", "score", "bbox")
_MAPS = ("uv_shape", "uv_data")


def write_iuv(iuv: np.ndarray) -> dict[str, Any]:
    """Return the fields of a row that hold part, U and V of each pixel of a detected box, (3, h, w) uint8."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(iuv.transpose(1, 2, 0))).save(buffer, "PNG")
    return {"uv_shape": list(iuv.shape), "uv_data": base64.b64encode(buffer.getvalue()).decode("ascii")}


def read_iuv(row: Mapping[str, Any]) -> np.ndarray:
    """Return part, U and V of each pixel of a detected box, (3, h, w) uint8.

    Raises:
        ValueError: says what is wrong with uv_shape or uv_data.
    """
    shape, (width, height) = row["uv_shape"], (max(1, int(side)) for side in row["bbox"][2:])
    if shape != [3, height, width]:
        raise ValueError(f"uv_shape {reprlib.repr(shape)} is not [3, {height}, {width}], by the sides of bbox")
    try:
        data = base64.b64decode(row["uv_data"])  # not validated: the challenge's own files have line breaks
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            if image.size != (width, height) or image.mode != "RGB":
                sides = f"{image.size[0]} x {image.size[1]}"
                raise ValueError(f"uv_data is a PNG of {sides} pixels in {image.mode}, not {width} x {height} in RGB")
            iuv = np.asarray(image).transpose(2, 0, 1)  # (3, h, w)
    except (binascii.Error, TypeError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"uv_data is not a PNG in base64 ({' '.join(str(error).split())})") from error
    if iuv[0].max() > PARTS:
        raise ValueError(f"uv_data has part {iuv[0].max()}, the parts are 1 to {PARTS} and 0, no part")
    return iuv


def best_of_images(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[int, int], list[int]]:
    """Return the places of the MOST rows of best score, ties in their order, for each (image id, category id)."""
    places: dict[tuple[int, int], list[int]] = {}
    for place, row in enumerate(rows):
        places.setdefault((row["image_id"], row["category_id"]), []).append(place)
    return {key: sorted(own, key=lambda place: -rows[place]["score"])[:MOST] for key, own in places.items()}


def apply_rules_to_rows(
    rows: Sequence[Any], content: Mapping[str, Any], source: str, findings: Findings
) -> list[Mapping[str, Any]]:
    """Return the rows that pass by the rules of `findings`, to which every fault is added.

    Of rows that are not among the MOST of best score of their image, uv_data is not needed and not read.

    Args:
        rows: {image_id, category_id, score, bbox XYWH, uv_shape, uv_data}; further keys are ignored.
        content: of the annotation file, as `read_coco_annotations` returns it.
        source: the name of the rows in messages, such as their file.
    """
    images = {image["id"] for image in content["images"]}
    categories = {category["id"] for category in content["categories"]}
    numbered = []
    for place, row in enumerate(rows):
        faults = row_faults(row, images, categories, _FIELDS)
        if GONE.isdisjoint([findings.add(kind, f"{source}[{place}]", what) for kind, what in faults]):
            numbered.append((place, row))
    scored = {index for own in best_of_images([row for _, row in numbered]).values() for index in own}
    kept = []
    for index, (place, row) in enumerate(numbered):
        fault = _map_fault(row) if index in scored else None
        if fault is None or findings.add(fault[0], f"{source}[{place}]", fault[1]) not in GONE:
            kept.append(row)
    return kept


def _map_fault(row: Mapping[str, Any]) -> tuple[str, str] | None:
    if missing := [key for key in _MAPS if key not in row]:
        return "row", f"no {', '.join(missing)}"
    try:
        read_iuv(row)
    except ValueError as error:
        return "points", str(error)
    return None
