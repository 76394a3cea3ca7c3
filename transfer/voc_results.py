"""Detections in the devkit's form: from a run's rows, and as the files `<class>.txt` of lines "image score x y x y"."""

import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from transfer.errors import TransferError
from transfer.faults import refuse
from transfer.voc_eval import ClassDetections

_LINE = "image score xmin ymin xmax ymax"


def from_rows(
    rows: Iterable[Mapping[str, Any]], class_names: Sequence[str], category_ids: Sequence[int]
) -> dict[str, ClassDetections]:
    """A run's rows (detections.coco_rows: bbox XYWH, 0-based edges) as devkit detections of each class, unrounded.

    1 is added to xmin and ymin, the inverse of how the data are read (as in Detectron2's evaluator).
    """
    name_of = dict(zip(category_ids, class_names, strict=True))
    found: dict[str, list[tuple[str, float, list[float]]]] = {name: [] for name in class_names}
    for row in rows:
        x, y, width, height = row["bbox"]
        box = [x + 1, y + 1, x + width, y + height]
        found[name_of[row["category_id"]]].append((str(row["image_id"]), row["score"], box))
    return {name: _gather(lines) for name, lines in found.items()}


def read(folder: Path, class_names: Sequence[str], split: str) -> tuple[dict[str, ClassDetections], list[Path]]:
    """Read `<class>.txt` (or the devkit's `comp3_det_<split>_<class>.txt`, `comp4_...`) of every class.

    An empty file is a class without detections.

    Returns:
        The detections, and the other .txt files of the folder, which were not read.

    Raises:
        TransferError: lists classes without a file or with two, and every malformed line.
    """
    if not folder.is_dir():
        raise TransferError(f"{folder}: no such folder; one with <class>.txt for each class is expected")
    faults: list[str] = []
    found, used, missing = {}, set(), []
    for name in class_names:
        names = [f"{name}.txt", f"comp4_det_{split}_{name}.txt", f"comp3_det_{split}_{name}.txt"]
        files = [folder / file for file in names if (folder / file).is_file()]
        used.update(files)
        if not files:
            missing.append(name)
        elif len(files) > 1:
            faults.append(f"{folder}: more than one file of class {name}: {', '.join(file.name for file in files)}")
        else:
            found[name] = _read_file(files[0], faults)
    if missing:
        faults.append(
            f"{folder}: no file {missing[0]}.txt (or comp4_det_{split}_{missing[0]}.txt) for each of the classes "
            f"{', '.join(missing)}; a class without detections has an empty file"
        )
    refuse(faults)
    return found, sorted(path for path in folder.glob("*.txt") if path not in used)


def write(folder: Path, detections: Mapping[str, ClassDetections]) -> None:
    """Write `<class>.txt` of each class into a new folder, numbers in full. TransferError if the folder exists."""
    if folder.exists():
        raise TransferError(f"{folder}: exists already, nothing is overwritten")
    refuse([f"class {name!r} cannot be a file name" for name in detections if "/" in name or "\0" in name])
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f"{folder.name}.partial-", dir=folder.parent))
    try:
        for name, found in detections.items():
            lines = [
                " ".join([image_id, *(repr(float(number)) for number in (score, *box))])
                for image_id, score, box in zip(found.image_ids, found.scores, found.boxes, strict=True)
            ]
            (partial / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        partial.chmod(0o755)  # mkdtemp's folder is private
        os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _read_file(path: Path, faults: list[str]) -> ClassDetections:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        faults.append(f"{path}: not readable as text ({error})")
        return _gather([])
    found = []
    for number, line in enumerate(lines, start=1):
        if not (fields := line.split()):
            continue
        try:
            image_id, score, *box = fields[0], *(float(field) for field in fields[1:])
        except ValueError:
            box = []
        if len(box) != 4 or not np.isfinite([score, *box]).all():
            faults.append(f"{path}, line {number}: {_LINE!r} with finite numbers is expected, not {line[:80]!r}")
        else:
            found.append((image_id, score, box))
    return _gather(found)


def _gather(found: Sequence[tuple[str, float, Sequence[float]]]) -> ClassDetections:
    return ClassDetections(
        [image_id for image_id, _, _ in found],
        np.array([score for _, score, _ in found], dtype=float),
        np.array([box for _, _, box in found], dtype=float).reshape(-1, 4),
    )
