"""The surface of the body that DensePose's points lie on: charts, their vertices, and the distances between them."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from transfer.data.densepose import body_files
from transfer.errors import TransferError, refuse

PARTS = 24
# Of coarse part 0 (none), 1 (torso), ...: k of GPS, Meta's mean distance between two annotators' points, in metres.
_SPREADS = np.array([0, 0.351, 0.107, 0.126, 0.237, 0.173, 0.142, 0.128, 0.150])
_COARSE = np.array([0, 1, 1, 2, 2, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 6, 6, 6, 6, 7, 7, 7, 7, 8, 8])  # of part 0, 1, ...


@dataclass(frozen=True)
class BodyModel:
    """The charts of the body's 24 parts, and the geodesic distances between its vertices.

    Args:
        parts: (V,) int64, the part 1 to 24 of each chart vertex.
        uv: (V, 2) float64, its place in the chart of its part, 0 to 1.
        vertices: (V,) int64, the vertex of the body that it is, from 0: on a seam several chart vertices are one.
        distances: (P,) float32, metres between two vertices i > j of the body, at i (i - 1) / 2 + j.
    """

    parts: np.ndarray
    uv: np.ndarray
    vertices: np.ndarray
    distances: np.ndarray

    def __post_init__(self) -> None:
        count = int(self.vertices.max(initial=-1)) + 1
        faults = []
        if not (len(self.parts) == len(self.uv) == len(self.vertices)):
            sizes = f"{len(self.parts)}, {len(self.uv)} and {len(self.vertices)}"
            faults.append(f"parts, UV and vertices are of {sizes} chart vertices")
        if set(self.parts.tolist()) != set(range(1, PARTS + 1)):
            faults.append(f"the parts are not 1 to {PARTS}, each with vertices")
        if self.vertices.min(initial=0) < 0 or len(self.distances) < count * (count - 1) // 2:
            faults.append(f"{len(self.distances)} distances do not belong to {count} vertices")
        refuse([f"the body's files do not fit together: {fault}" for fault in faults])

    def nearest(self, parts: np.ndarray, uv: np.ndarray) -> np.ndarray:
        """Return the chart vertex nearest to each point in the chart of its part.

        Args:
            parts: (N,) of each point.
            uv: (N, 2).

        Returns:
            (N,) int64, index of a chart vertex; -1 for a point that is on no part, 1 to 24.
        """
        found = np.full(len(parts), -1)
        for part in range(1, PARTS + 1):
            points = np.flatnonzero(parts == part)
            if len(points):
                own = np.flatnonzero(self.parts == part)
                apart = self.uv[own][:, None] - uv[points][None]  # (own vertices, points, 2)
                found[points] = own[np.argmin(np.sqrt((apart**2).sum(axis=2)), axis=0)]
        return found

    def distances_between(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Return the distances (N,) between pairs of chart vertices, `first` all valid; infinite where `second` is -1.

        They are float64, but float32 where all are of two vertices that differ: the published evaluator squares them
        in that precision.
        """
        a, b = self.vertices[first], self.vertices[second]
        low, high = np.minimum(a, b), np.maximum(a, b)
        apart = (second >= 0) & (low != high)
        found = np.where(second >= 0, 0.0, np.inf)
        place = np.where(apart, high * (high - 1) // 2 + low, 0)
        measured = self.distances[place].astype(np.float32)
        return measured if apart.all() else np.where(apart, measured.astype(np.float64), found)

    def spreads(self, chart_vertices: np.ndarray) -> np.ndarray:
        """Return k (N,) of GPS for points whose ground truth lies on these chart vertices."""
        return _SPREADS[_COARSE[self.parts[chart_vertices]]]


def read_body_model(folder: Path) -> BodyModel:
    """Read the surface of the body from Meta's three files in `folder`, of which the distances take 1.5 GB of memory.

    Raises:
        TransferError: names what is missing, with its address, or cannot be read.
    """
    body_files.check_body_files(folder, body_files.EVALUATION_FILES, "the GPS of DensePose")
    path = folder / body_files.SURFACE
    surface = body_files.read_matlab(path)
    u, v, parts = (_numbers(path, surface, key) for key in ("U_subdiv", "V_subdiv", "Part_ID_subdiv"))
    path = folder / body_files.SEAMS
    vertices = _numbers(path, body_files.read_matlab(path), "index").astype(np.int64) - 1
    path = folder / body_files.DISTANCES
    distances = _numbers(path, body_files.read_pickled_arrays(path), "Pdist_matrix").astype(np.float32, copy=False)
    try:
        return BodyModel(parts.astype(np.int64), np.stack([u, v], axis=1).astype(float), vertices, distances)
    except (TransferError, ValueError) as error:
        raise TransferError(f"{folder}: {error}") from error


def _numbers(path: Path, content: Any, key: str) -> np.ndarray:
    """Return the numbers under a key of a file, in one row; refuse what is none."""
    value = content.get(key)
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "iuf" or not value.size:
        known = ", ".join(str(name) for name in content if not str(name).startswith("__"))
        raise TransferError(f"{path}: an array of numbers is expected under {key!r}; the file has {known or 'nothing'}")
    if not math.isfinite(float(value.sum(dtype=np.float64))):
        raise TransferError(f"{path}: {key} has numbers that are not finite")
    return value.reshape(-1)
