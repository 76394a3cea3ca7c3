"""The use of DensePose, a project of Detectron2's source: its heads, the points that train them, the maps they give.

The project is imported when a configuration asks for it, not before.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from transfer.data.densepose.body_files import SYMMETRY, check_body_files, read_matlab
from transfer.data.densepose.body_model import PARTS
from transfer.data.densepose.points import MASK_FIELD, POINT_FIELDS, has_points
from transfer.engines.detectron2.quiet import quiet
from transfer.errors import TransferError, refuse

with quiet():
    from detectron2.config import CfgNode
    from detectron2.structures import Instances

MOST = 20  # detections of an image whose map is made: those that are scored
_CHART = 256  # entries along each side of a symmetry table


def import_project() -> None:
    """Import Detectron2's project DensePose, which registers its heads.

    Raises:
        TransferError: it is not on the path, or lacks a package.
    """
    try:
        with quiet():
            import densepose  # noqa: F401
    except ImportError as error:
        raise TransferError(
            f"MODEL.DENSEPOSE_ON True: Detectron2's project DensePose cannot be imported ({error}). Put the folder "
            "projects/DensePose of Detectron2's source on PYTHONPATH, and pip install av scipy "
            "(docs/guides/densepose.md)"
        ) from error


def check_settings(cfg: CfgNode) -> None:
    """Raise TransferError for settings under which points would not lie where the augmented image has them."""
    faults = []
    if cfg.INPUT.RANDOM_FLIP not in ("horizontal", "none"):
        faults.append(f"INPUT.RANDOM_FLIP {cfg.INPUT.RANDOM_FLIP}: DensePose has horizontal, or none")
    if cfg.INPUT.CROP.ENABLED:
        faults.append("INPUT.CROP.ENABLED True: DensePose's points are relative to the whole box of a person")
    if any(cfg.INPUT.ROTATION_ANGLES):
        faults.append(f"INPUT.ROTATION_ANGLES {list(cfg.INPUT.ROTATION_ANGLES)}: only [0], no rotation, is supported")
    if cfg.MODEL.ROI_DENSEPOSE_HEAD.COARSE_SEGM_TRAINED_BY_MASKS or cfg.MODEL.MASK_ON or cfg.MODEL.KEYPOINT_ON:
        faults.append(
            "MODEL.MASK_ON, MODEL.KEYPOINT_ON and MODEL.ROI_DENSEPOSE_HEAD.COARSE_SEGM_TRAINED_BY_MASKS: DensePose is "
            "trained with boxes alone"
        )
    refuse(faults)


class PointTransform:
    """The transform of people's points and part masks with their image, by DensePose's own code.

    Args:
        body: the folder of the body's files. A horizontal flip reads the symmetry of the charts there.

    Raises:
        TransferError: there may be a flip, and the file is missing or is no table of symmetries.
    """

    def __init__(self, cfg: CfgNode, body: Path) -> None:
        import_project()
        flips = cfg.INPUT.RANDOM_FLIP == "horizontal"
        self._symmetry = _read_symmetry(body) if flips else None

    def add_points(
        self,
        instances: Instances,
        people: Sequence[Mapping[str, Any]],
        transforms: Any,
        image_shape: tuple[int, int],
    ) -> None:
        """Give instances the points of their people as `gt_densepose`, where anybody has points."""
        from densepose.structures import DensePoseList

        points = [self._transformed(person, transforms) if has_points(person) else None for person in people]
        if any(own is not None for own in points):
            instances.gt_densepose = DensePoseList(points, instances.gt_boxes, image_shape)

    def _transformed(self, person: Mapping[str, Any], transforms: Any) -> Any:
        from densepose.structures import DensePoseDataRelative

        own = {field: [float(value) for value in person[field]] for field in POINT_FIELDS}
        data = DensePoseDataRelative({**own, MASK_FIELD: person[MASK_FIELD]})
        data.apply_transform(transforms, self._symmetry)
        return data


def _read_symmetry(body: Path) -> Any:
    """Return DensePose's tables of the flip: the parts' partners, and U and V on the other side of the body."""
    from densepose.structures import DensePoseTransformData

    check_body_files(body, (SYMMETRY,), "a horizontal flip")
    path = body / SYMMETRY
    content, tables = read_matlab(path), {}
    for key in ("U_transforms", "V_transforms"):
        cells = content.get(key)
        if not isinstance(cells, np.ndarray) or cells.shape != (1, PARTS) or cells.dtype != object:
            raise TransferError(f"{path}: {key} is not a table for each of the {PARTS} parts")
        if odd := [part for part, table in enumerate(cells[0], 1) if not _is_table(table)]:
            raise TransferError(f"{path}: {key} of part {odd[0]} is not {_CHART} x {_CHART} numbers")
        tables[key] = torch.stack([torch.as_tensor(np.asarray(table, dtype=np.float32)) for table in cells[0]])
    return DensePoseTransformData(tables, torch.device("cpu"))


def _is_table(table: Any) -> bool:
    return isinstance(table, np.ndarray) and table.shape == (_CHART, _CHART) and table.dtype.kind in "iuf"


def maps_of_body(found: Instances) -> list[Tensor]:
    """Return the map of the body of the detections of best score, each (3, h, w) uint8 on the pixels of its box.

    Part, and 255 times U and V: DensePose's own resampling, to the whole sides of the box.
    """
    if not len(found) or not found.has("pred_densepose"):
        return []
    from densepose.converters.chart_output_to_chart_result import resample_uv_tensors_to_bbox
    from densepose.converters.segm_to_mask import resample_fine_and_coarse_segm_tensors_to_bbox

    maps = []
    for index, (x1, y1, x2, y2) in enumerate(found.pred_boxes.tensor.double().tolist()[:MOST]):
        box = (int(x1), int(y1), int(x2 - x1), int(y2 - y1))
        one = found.pred_densepose[index]
        parts = resample_fine_and_coarse_segm_tensors_to_bbox(one.fine_segm, one.coarse_segm, box)  # (1, h, w)
        uv = resample_uv_tensors_to_bbox(one.u, one.v, parts.squeeze(0), box)  # (2, h, w)
        maps.append(torch.cat([parts.byte(), (uv * 255).clamp(0, 255).byte()]))
    return maps
