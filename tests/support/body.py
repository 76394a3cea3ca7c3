"""A small stand-in for the body that DensePose's points lie on, and the files that it is read from."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import savemat

from transfer.data.densepose.body_files import DISTANCES, SEAMS, SURFACE
from transfer.evaluation.densepose.results import write_iuv

SIDE = 3  # vertices along each side of a chart


def prism() -> np.ndarray:
    """Return (V, 6) part, u, v, x, y, z of 24 charts around a prism."""
    steps = np.linspace(0, 1, SIDE)
    turns = 2 * np.pi * np.arange(24) / 24
    rows = [
        (part + 1, u, v, 0.4 * np.cos(turn) + 0.15 * u, 0.4 * np.sin(turn) + 0.15 * v, 0.1 * u * v)
        for part, turn in enumerate(turns)
        for u in steps
        for v in steps
    ]
    return np.array(rows)


def distances_of(places: np.ndarray) -> np.ndarray:
    """Return the condensed distances (P, 1) float32 between places (V, 3), as Meta's file orders them."""
    high, low = np.tril_indices(len(places), -1)
    return np.array([[np.linalg.norm(places[i] - places[j])] for i, j in zip(high, low, strict=True)], dtype=np.float32)


def write_body(folder: Path, vertices: np.ndarray) -> Path:
    """Write the three files of a body whose chart vertices (V, 6) are part, u, v, x, y, z; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    columns = vertices.T
    surface = {"U_subdiv": columns[1:2].T, "V_subdiv": columns[2:3].T, "Part_ID_subdiv": columns[0:1].astype(np.uint8)}
    savemat(folder / SURFACE, surface)
    savemat(folder / SEAMS, {"index": np.arange(1, len(vertices) + 1)[None]})
    (folder / DISTANCES).write_bytes(pickle.dumps({"Pdist_matrix": distances_of(vertices[:, 3:])}, protocol=2))
    return folder


def person(number: int = 1, **changes: Any) -> dict[str, Any]:
    """Return the annotation of a person with three points, two of them on part 3, and one on part 4."""
    return {
        "id": number, "image_id": 1, "category_id": 1, "bbox": [10, 10, 51, 51], "area": 2601, "iscrowd": 0,
        "segmentation": [[10, 10, 61, 10, 61, 61, 10, 61]], "dp_x": [50.0, 100.0, 200.0], "dp_y": [50.0, 100.0, 200.0],
        "dp_I": [3.0, 3.0, 4.0], "dp_U": [0.0, 0.5, 1.0], "dp_V": [0.0, 0.5, 1.0], "dp_masks": [[]] * 14, **changes,
    }  # fmt: skip


def without_points(annotation: dict[str, Any]) -> dict[str, Any]:
    """Return an annotation without its points."""
    return {key: value for key, value in annotation.items() if not key.startswith("dp_")}


def found_person(**changes: Any) -> dict[str, Any]:
    """Return a row of results that has all points of `person` where they are."""
    iuv = np.zeros((3, 51, 51), dtype=np.uint8)
    for x, y, part, u, v in zip(*(person()[key] for key in ("dp_x", "dp_y", "dp_I", "dp_U", "dp_V")), strict=True):
        iuv[:, int(y * 51 / 255), int(x * 51 / 255)] = part, round(255 * u), round(255 * v)
    row = {"image_id": 1, "category_id": 1, "score": 0.5, "bbox": [10, 10, 51, 51], **write_iuv(iuv)}
    return {**row, **changes}


def write_people(folder: Path, *annotations: dict[str, Any], images: int = 1) -> Path:
    """Write an annotation file with people in images of 80 x 80 pixels; return its path."""
    content = {
        "images": [{"id": i + 1, "file_name": f"{i + 1}.jpg", "height": 80, "width": 80} for i in range(images)],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": annotations,
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "densepose_minival2014.json"
    path.write_text(json.dumps(content))
    return path
