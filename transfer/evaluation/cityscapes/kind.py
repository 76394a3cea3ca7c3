"""The evaluation of data in the layout of Cityscapes: the AP of its own scripts, of masks."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pretrain.runtime.errors import listed
from transfer.data.cityscapes.files import CityscapesSplit, find_instance_images, frame_name
from transfer.data.common.dataset import Dataset
from transfer.data.common.faults import Findings
from transfer.errors import TransferError, refuse
from transfer.evaluation.cityscapes.ap import cityscapes_average_precision, evaluate_cityscapes
from transfer.evaluation.cityscapes.folder import instance_image_sizes, pair_images_with_rows
from transfer.evaluation.cityscapes.instance_image import InstanceImage
from transfer.evaluation.cityscapes.matching import ScoredMatches, match_cityscapes
from transfer.evaluation.cityscapes.results import rows_by_frame
from transfer.evaluation.common.bootstrap import Samples
from transfer.evaluation.common.data_kind import KindEvaluation, Matches, SavedDetections
from transfer.evaluation.common.image_ids import refuse_repeated_images
from transfer.results import Result, Scores, ap_points

_PART = "segm"


def cityscapes_parts(dataset: Dataset, masks: bool, keypoints: bool) -> tuple[str, ...]:
    """Return ("segm",): Cityscapes scores masks alone.

    Raises:
        TransferError: the detector predicts no masks, test images share a name, or it lists those whose objects cannot
            be read.
    """
    title = ", ".join(dataset.names)
    if not masks:
        raise TransferError(f"{title}: Cityscapes' AP is one of masks, and MODEL.MASK_ON is False")
    refuse_repeated_images(dataset)
    sizes = instance_image_sizes(_instance_images(dataset))
    refuse(
        [
            f"{record['file_name']}: its image of objects is {sizes[name][1]} x {sizes[name][0]}, not "
            f"{record['width']} x {record['height']}"
            for record in dataset.records
            if sizes[name := frame_name(record["image_id"])] != (record["height"], record["width"])
        ]
    )
    return (_PART,)


def score_cityscapes(dataset: Dataset, detections: SavedDetections, parts: Sequence[str]) -> Scores:
    """Score detections by Cityscapes' AP."""
    scores = evaluate_cityscapes(_truth_and_detections(dataset, detections, "detections"))
    classes = scores["per_class"]
    return Scores(
        metrics={_PART: ap_points({name: scores[name] for name in ("AP", "AP50")})},
        per_class={_PART: ap_points({name: own["AP"] for name, own in classes.items()})},
        remarks=tuple(scores["remarks"]),
    )


def resample_cityscapes(dataset: Dataset, matches: Matches, weights: np.ndarray) -> dict[str, Samples]:
    """Return Cityscapes' AP on the test sets of `weights` (1 + R, I)."""
    found = [one for one in matches[_PART] if isinstance(one, ScoredMatches)]
    return {_PART: Samples.of(100 * np.stack([cityscapes_average_precision(one, weights) for one in found]))}


def _match(dataset: Dataset, detections: SavedDetections, parts: Sequence[str], source: str) -> Matches:
    return {_PART: match_cityscapes(_truth_and_detections(dataset, detections, source))}


def _columns(result: Result) -> list[str]:
    return [f"{_PART}/AP", f"{_PART}/AP50"]


def _truth_and_detections(
    dataset: Dataset, detections: SavedDetections, source: str
) -> Iterator[tuple[InstanceImage, Sequence[Mapping[str, Any]]]]:
    findings = Findings(dataset.rules)
    sizes = {frame_name(record["image_id"]): (record["height"], record["width"]) for record in dataset.records}
    found = rows_by_frame(detections, sizes, source, findings)
    findings.raise_if_refused(source)
    return pair_images_with_rows(_instance_images(dataset), found)


def _instance_images(dataset: Dataset) -> dict[str, Path]:
    """Return the instance image of each record, by the name of its frame and in the order of the records."""
    splits: Sequence[CityscapesSplit] = dataset.annotations
    paths = {name: path for split in splits for name, path in find_instance_images(split.annotations)}
    folders = listed([split.annotations for split in splits], 3)
    names = [frame_name(record["image_id"]) for record in dataset.records]
    refuse(
        [
            f"{name}_gtFine_instanceIds.png: no such file in the folders of {folders}, and the evaluation needs it"
            for name in names
            if name not in paths
        ]
    )
    return {name: paths[name] for name in names}


CITYSCAPES_EVALUATION = KindEvaluation(
    parts=cityscapes_parts,
    score=score_cityscapes,
    match=_match,
    resample=resample_cityscapes,
    columns=_columns,
    curve_part=_PART,
    titles={_PART: "mask"},
)
