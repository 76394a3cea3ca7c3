"""The visible parts of the objects of an image: each outline less those that were drawn over it, as in Detectron2."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import shapely
from shapely.geometry import MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry

from transfer.data.cityscapes.labels import INSTANCE_IDS
from transfer.data.cityscapes.polygon_file import Outline

_CLASS_OF_ID = {label_id: index for index, label_id in enumerate(INSTANCE_IDS)}
# Pixels are drawn where their middle lies in a polygon, edges included: half a pixel fatter than the polygon.
_MIDDLE = _FATTER = 0.5  # pixels
_QUARTER_SEGMENTS = 4  # of a rounded corner


def visible_annotations(outlines: Sequence[Outline]) -> list[dict[str, Any]]:
    """Return the annotations of the objects of an image, the one drawn last first, as in Detectron2's standard dicts.

    Holes in a part are lost, since a list of polygons cannot say them; an object of which nothing is visible is none.

    Args:
        outlines: in the order of drawing.

    Returns:
        {category_id from 0, iscrowd 1 for a group, bbox XYXY in pixels, bbox_mode 0, segmentation: polygons}.

    Raises:
        ValueError, shapely.errors.GEOSException: an outline of which no area can be made; `fault_of_outline` names it.
    """
    covered: BaseGeometry = Polygon()
    annotations = []
    for outline in reversed(outlines):
        area = _area(outline)
        index = None if outline.label.is_void else _CLASS_OF_ID.get(outline.label.id)
        if index is not None:
            visible = area.difference(covered)
            if visible.is_empty:
                continue
            annotations.append(_annotation(visible, index, outline.is_group))
        covered = covered.union(area)
    return annotations


def fault_of_outline(outline: Outline) -> str | None:
    """Describe why no area can be made of an outline; None if it can."""
    try:
        _area(outline)
    except (ValueError, shapely.errors.GEOSException) as error:
        return str(error)
    return None


def _area(outline: Outline) -> BaseGeometry:
    points = np.asarray(outline.points, dtype=np.float32) + _MIDDLE  # (P, 2); Detectron2 has this precision
    return Polygon(points).buffer(_FATTER, quad_segs=_QUARTER_SEGMENTS)


def _annotation(visible: BaseGeometry, index: int, is_group: bool) -> dict[str, Any]:
    parts = visible.geoms if isinstance(visible, MultiPolygon) else (visible,)
    return {
        "category_id": index,
        "iscrowd": int(is_group),
        "bbox": list(visible.bounds),
        "bbox_mode": 0,
        "segmentation": [np.asarray(part.exterior.coords).ravel().tolist() for part in parts],
    }
