"""The evaluation of data with label maps: mean IoU over classes, and the IoU of each class."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pycocotools.mask

from pretrain.runtime.progress import track
from transfer.data.common.dataset import Dataset
from transfer.data.semantic.label_maps import IGNORED, read_label_map
from transfer.errors import TransferError
from transfer.evaluation.common.bootstrap import Samples
from transfer.evaluation.common.data_kind import KindEvaluation, Matches, Rows, SavedDetections
from transfer.evaluation.common.image_ids import refuse_repeated_images
from transfer.evaluation.semantic.iou import METRICS, PixelCounts, add_counts, class_ious, count_pixels, mean_scores
from transfer.evaluation.semantic.remarks import label_map_remarks
from transfer.predictions import Detections, LabelMap, label_map_rows
from transfer.results import Result, Scores, ap_point, ap_points

PART = "sem_seg"


def label_map_parts(dataset: Dataset, masks: bool, keypoints: bool) -> tuple[str, ...]:
    """Return ("sem_seg",), what label maps are scored by, whatever a model predicts beside them."""
    refuse_repeated_images(dataset)
    return (PART,)


def rows_of_prediction(dataset: Dataset, record: Mapping[str, Any], predicted: Detections | LabelMap) -> Rows:
    """Return the rows that are saved of the label map predicted for the image of a record."""
    if not isinstance(predicted, LabelMap):
        raise TypeError(f"data of the kind {dataset.kind.name} are scored by label maps, not by {type(predicted)}")
    return label_map_rows(predicted, record["image_id"], dataset.category_ids)


def predicted_label_map(rows: SavedDetections, height: int, width: int) -> np.ndarray:
    """Return the label map (H, W) uint8 of an image from its rows; IGNORED where no row has a pixel.

    Raises:
        TransferError: the rows are those of an image of another size.
    """
    classes = np.full((height, width), IGNORED, dtype=np.uint8)
    for row in rows:
        if list(row["segmentation"]["size"]) != [height, width]:
            raise TransferError(
                f"image {row['image_id']}: predicted in {row['segmentation']['size']}, its label map is "
                f"{[height, width]} (height, width)"
            )
        classes[pycocotools.mask.decode(row["segmentation"]).astype(bool)] = row["category_id"]
    return classes


def count_image_pixels(dataset: Dataset, rows: SavedDetections) -> list[PixelCounts]:
    """Return the pixels of each image of the data set, in its order."""
    of_image: dict[Any, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        of_image[row["image_id"]].append(row)
    counts = []
    for record in track(dataset.records, "score label maps"):
        truth = read_label_map(record["sem_seg_file_name"])
        predicted = predicted_label_map(of_image[record["image_id"]], *truth.shape)
        counts.append(count_pixels(truth, predicted, len(dataset.class_names), IGNORED))
    return counts


def score_label_maps(dataset: Dataset, rows: SavedDetections, parts: Sequence[str]) -> Scores:
    """Score label maps by IoU: one ratio a class over the pixels of all images."""
    classes = len(dataset.class_names)
    counts = add_counts(count_image_pixels(dataset, rows), classes)
    ious = zip(dataset.class_names, class_ious(counts).tolist(), strict=True)
    return Scores(
        metrics={PART: ap_points(mean_scores(counts))},
        per_class={PART: {name: ap_point(iou) for name, iou in ious}},
        remarks=label_map_remarks(counts, dataset.class_names),
    )


def resample_label_maps(dataset: Dataset, matches: Matches, weights: np.ndarray) -> dict[str, Samples]:
    """Return the metrics on the test sets of `weights` (1 + R, I)."""
    images: Sequence[PixelCounts] = matches[PART]
    counts = PixelCounts(*(weights @ np.stack(one) for one in zip(*images, strict=True)))  # each (1 + R, K)
    sets = [mean_scores(PixelCounts(*one)) for one in zip(*counts, strict=True)]
    metrics = {metric: np.array([100 * scores[metric] for scores in sets]) for metric in METRICS}  # (1 + R,) each
    return {PART: Samples(metrics, 100 * class_ious(counts).T)}


def wrong_pixels(matches: Matches) -> np.ndarray:
    """Return (I,) the pixels of each image that are not predicted as their class."""
    return np.array([int((one.objects - one.shared).sum()) for one in matches[PART]])


def label_map_columns(result: Result) -> list[str]:
    """Return the columns of a report's table: all METRICS."""
    return [f"{PART}/{metric}" for metric in METRICS]


def _match(dataset: Dataset, rows: SavedDetections, parts: Sequence[str], source: str) -> Matches:
    return {PART: count_image_pixels(dataset, rows)}


LABEL_MAP_EVALUATION = KindEvaluation(
    parts=label_map_parts,
    score=score_label_maps,
    match=_match,
    resample=resample_label_maps,
    columns=label_map_columns,
    titles={PART: ""},
    rows=rows_of_prediction,
    results_file="sem_seg_predictions.json",
    headline="mIoU",
    class_metric="IoU",
    wrong_pixels=wrong_pixels,
)
