"""The geodesic point similarity, GPS, of a detected person and an annotated one (DensePose, arXiv 1802.00434, 2.2)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from transfer.data.densepose.body_model import BodyModel
from transfer.data.densepose.points import POINT_SIDE, has_points
from transfer.evaluation.densepose.results import read_iuv


def gps_of_pairs(
    persons: Sequence[Mapping[str, Any]], detections: Sequence[Mapping[str, Any]], body: BodyModel
) -> np.ndarray:
    """Return the GPS (D, G) of each detected person with each annotated one of an image, 0 to 1.

    A person without points has 0 with every detection.

    Args:
        persons: G annotations with bbox XYWH and, where they have points, dp_x, dp_y, dp_I, dp_U, dp_V.
        detections: D rows of a results file with bbox XYWH, uv_shape and uv_data.
        body: the surface that distances are measured on.
    """
    found = np.zeros((len(detections), len(persons)))
    annotated = {column: _Points(person, body) for column, person in enumerate(persons) if has_points(person)}
    if annotated:
        for row, detection in enumerate(detections):
            iuv = read_iuv(detection)  # (3, h, w) uint8
            for column, points in annotated.items():
                found[row, column] = points.similarity(detection["bbox"], iuv)
    return found


class _Points:
    """The annotated points of a person, with the vertices of the body that they lie on."""

    def __init__(self, person: Mapping[str, Any], body: BodyModel) -> None:
        left, top, width, height = person["bbox"]
        # In this order of operations: a point on the edge of two pixels falls into the one that it published.
        self.x = np.array(person["dp_x"], dtype=float) * width / POINT_SIDE
        self.y = np.array(person["dp_y"], dtype=float) * height / POINT_SIDE
        self.left, self.top, self.body = left, top, body
        uv = np.stack([np.array(person["dp_U"], dtype=float), np.array(person["dp_V"], dtype=float)], axis=1)
        self.vertices = body.nearest(np.array(person["dp_I"], dtype=float), uv)  # (N,)

    def similarity(self, box: Sequence[float], iuv: np.ndarray) -> float:
        """Return the mean over the points of exp(-g^2 / (2 k^2)), with g infinite outside the detected surface."""
        x = (self.x + self.left - box[0]).astype(int)  # towards 0, as published: up to a pixel outside counts as in
        y = (self.y + self.top - box[1]).astype(int)
        inside = (x >= 0) & (y >= 0) & (x < int(box[2])) & (y < int(box[3]))
        known = self.vertices >= 0
        if not inside.any() or not known.any():
            return 0.0
        columns, rows = np.where(inside, x, 0), np.where(inside, y, 0)
        parts = np.where(inside, iuv[0, rows, columns], 0)  # (N,)
        uv = np.stack([iuv[1, rows, columns], iuv[2, rows, columns]], axis=1) / 255.0
        found, truth = self.body.nearest(parts, uv)[known], self.vertices[known]
        distances = self.body.distances_between(truth, found)
        return float(np.mean(np.exp(-(distances**2) / (2 * self.body.spreads(truth) ** 2))))
