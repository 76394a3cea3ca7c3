"""The scores of a folder of predicted label maps against a folder of true ones, by the names of their files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from transfer.data.common.faults import Findings
from transfer.data.semantic.label_maps import SUFFIX, decode_label_map
from transfer.data.voc.files import FilesById
from transfer.errors import TransferError
from transfer.evaluation.semantic.iou import PixelCounts, add_counts, class_ious, count_pixels, mean_scores
from transfer.evaluation.semantic.remarks import label_map_remarks


def score_folders(
    labels: Path, predictions: Path, class_names: Sequence[str], ignored: int, findings: Findings
) -> dict[str, Any]:
    """Score the label maps of a folder.

    Args:
        labels: the folder of the ground truth; every label map there is scored.
        predictions: the folder of the predictions, which have the names of the label maps.
        class_names: of index 0, 1, ...
        ignored: value of the pixels of the ground truth that are not scored; in a prediction it is no class.
        findings: every fault is added.

    Returns:
        The metrics in [0, 1], `per_class`: name -> IoU, the number of images, remarks.

    Raises:
        TransferError: lists every fault of the files.
    """
    true_files, predicted_files = (_files(folder) for folder in (labels, predictions))
    counts: list[PixelCounts] = []
    for name, path in true_files.items():
        other = predicted_files.get(name)
        if other is None:
            findings.add("label_map", str(predictions / name), f"no prediction for {path}")
            continue
        truth = _read(path, len(class_names), ignored, findings)
        predicted = _read(other, len(class_names), ignored, findings)
        if truth is None or predicted is None:
            continue
        if truth.shape != predicted.shape:
            sizes = [f"{one.shape[1]} x {one.shape[0]}" for one in (predicted, truth)]
            what = f"{sizes[0]} pixels, and {path} is {sizes[1]}: predictions are scored in the size of the label map"
            findings.add("label_map", str(other), what)
            continue
        counts.append(count_pixels(truth, np.where(predicted == ignored, 255, predicted), len(class_names), ignored))
    for name in predicted_files.keys() - true_files.keys():
        findings.add("unknown_image", str(predictions / name), f"no label map of this name in {labels}")
    findings.raise_if_refused(labels)
    total = add_counts(counts, len(class_names))
    ious = dict(zip(class_names, class_ious(total).tolist(), strict=True))
    remarks = list(label_map_remarks(total, class_names))
    return {**mean_scores(total), "per_class": ious, "images": len(counts), "remarks": remarks}


def _files(folder: Path) -> Mapping[str, Path]:
    """Return the PNG files of a folder by their names, those of its folders where it has none itself."""
    files = FilesById(folder, (SUFFIX,))
    found = {f"{image_id}{SUFFIX}": files.file(image_id) for image_id in files.ids()}
    if not found:
        what = "holds no PNG files" if folder.is_dir() else "no such folder"
        raise TransferError(f"{folder}: {what}; label maps are PNG files whose values are class indices")
    return found


def _read(path: Path, classes: int, ignored: int, findings: Findings) -> np.ndarray | None:
    """Read a label map; None where it is at fault."""
    try:
        values = decode_label_map(path.read_bytes(), path)
    except (OSError, TransferError) as error:
        findings.add("label_map", str(path), str(error).removeprefix(f"{path}: "))
        return None
    if above := [value for value in np.unique(values).tolist() if value >= classes and value != ignored]:
        shown = ", ".join(map(str, above[:5]))
        what = f"no class has the index {shown}; {classes} classes have 0 to {classes - 1}, {ignored} is ignored"
        findings.add("label_value", str(path), what)
        return None
    return values
