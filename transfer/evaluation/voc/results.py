"""The detections in the form of VOC's devkit, from a run or from files `<class>.txt` of lines "image score box"."""

import math
import os
import re
import reprlib
import shutil
import tempfile
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from transfer.data.common.faults import Findings
from transfer.data.common.values import FARTHEST
from transfer.errors import TransferError, refuse
from transfer.evaluation.voc.ap import ClassDetections

_NUMBER_AT_END = re.compile(r"\s[-+.0-9eE]+$")  # of what stands before the last five fields: a sixth number
_LINE = "image score xmin ymin xmax ymax"


def devkit_detections(
    detections: Iterable[Mapping[str, Any]], class_names: Sequence[str], category_ids: Sequence[int]
) -> dict[str, ClassDetections]:
    """Convert a run's detections to devkit detections of each class, unrounded.

    1 is added to xmin and ymin, the inverse of how the data are read (as in Detectron2's evaluator).

    Args:
        detections: as transfer.predictions.coco_detections makes them: bbox XYWH, edges counted from 0.
    """
    name_of = dict(zip(category_ids, class_names, strict=True))
    found: dict[str, list[tuple[str, float, list[float]]]] = {name: [] for name in class_names}
    for detection in detections:
        x, y, width, height = detection["bbox"]
        box = [x + 1, y + 1, x + width, y + height]
        found[name_of[detection["category_id"]]].append((str(detection["image_id"]), detection["score"], box))
    return {name: _class_detections(lines) for name, lines in found.items()}


def read_voc_results(
    folder: Path,
    class_names: Sequence[str],
    split: str,
    findings: Findings | None = None,
    image_ids: Collection[str] | None = None,
) -> tuple[dict[str, ClassDetections], list[Path]]:
    """Read `<class>.txt` (or the devkit's `comp3_det_<split>_<class>.txt`, `comp4_...`) of every class.

    An empty file is a class without detections.

    Args:
        findings: the rules for faults; every fault is added. None: the default rules, which refuse every one.
        image_ids: those of the split; None: any image is accepted.

    Returns:
        The detections, and the other .txt files of the folder, which were not read.

    Raises:
        TransferError: lists classes without a file or with two, and every line that the rules refuse.
    """
    findings = findings or Findings()
    found, unread = examine_voc_results(folder, class_names, split, findings, image_ids)
    findings.raise_if_refused(folder)
    return found, unread


def examine_voc_results(
    folder: Path, class_names: Sequence[str], split: str, findings: Findings, image_ids: Collection[str] | None = None
) -> tuple[dict[str, ClassDetections], list[Path]]:
    """Read what passes by the rules of `findings`, to which every fault is added; otherwise as `read_voc_results`."""
    if not folder.is_dir():
        findings.add("file", str(folder), "no such folder; one with <class>.txt for each class is expected")
        return {}, []
    found, used, missing = {}, set(), []
    known = None if image_ids is None else frozenset(image_ids)
    for name in class_names:
        names = [f"{name}.txt", f"comp4_det_{split}_{name}.txt", f"comp3_det_{split}_{name}.txt"]
        files = [folder / file for file in names if (folder / file).is_file()]
        used.update(files)
        if not files:
            missing.append(name)
        elif len(files) > 1:
            shown = ", ".join(file.name for file in files)
            findings.add("file", str(folder), f"more than one file of class {name}: {shown}")
        else:
            found[name] = _read_class_file(files[0], known, findings)
    if missing:
        findings.add(
            "file",
            str(folder),
            f"no file {missing[0]}.txt (or comp4_det_{split}_{missing[0]}.txt) for each of the classes "
            f"{', '.join(missing)}; a class without detections has an empty file",
        )
    return found, sorted(path for path in folder.glob("*.txt") if path not in used)


def write_voc_results(folder: Path, detections: Mapping[str, ClassDetections]) -> None:
    """Write `<class>.txt` of each class, numbers in full, into a new folder.

    Raises:
        TransferError: the folder exists, or the name of a class cannot be the name of a file.
    """
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


def _read_class_file(path: Path, image_ids: frozenset[str] | None, findings: Findings) -> ClassDetections:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        findings.add("file", str(path), f"not readable as text ({error})")
        return _class_detections([])
    names = {_form(image_id): image_id for image_id in image_ids or ()}
    found = []
    for number, line in enumerate(lines, start=1):
        if not (fields := line.strip().rsplit(maxsplit=5)):  # an image's name may hold blanks
            continue
        fault = _line_fault(fields, None if image_ids is None else names)
        if fault is None:
            score, *box = (float(field) for field in fields[1:])
            found.append((names.get(_form(fields[0]), fields[0]), score, box))
        else:
            findings.add(fault[0], f"{path}, line {number}", fault[1])
    return _class_detections(found)


def _line_fault(fields: Sequence[str], known: Mapping[str, str] | None) -> tuple[str, str] | None:
    """Return (kind of fault, description) of one line; None if nothing is wrong with it."""
    shown = reprlib.repr(" ".join(fields))
    try:
        numbers = [float(field) for field in fields[1:]]
    except ValueError:
        numbers = []
    unknown = known is None or _form(fields[0]) not in known
    if len(numbers) != 5 or (unknown and _NUMBER_AT_END.search(fields[0])):
        return "row", f"{_LINE!r} with finite numbers is expected, not {shown}"
    if not math.isfinite(numbers[0]):
        return "score", f"the score is not finite: {shown}"
    if not all(abs(number) <= FARTHEST for number in numbers[1:]):
        return "box", f"the box is not finite, or beyond {FARTHEST:.0e} pixels: {shown}"
    if known is not None and unknown:
        return "unknown_image", f"the split does not list image {fields[0]}"
    return None


def _form(name: str) -> str:
    return unicodedata.normalize("NFC", name)  # an accent may be written composed or not


def _class_detections(found: Sequence[tuple[str, float, Sequence[float]]]) -> ClassDetections:
    return ClassDetections(
        [image_id for image_id, _, _ in found],
        np.array([score for _, score, _ in found], dtype=float),
        np.array([box for _, _, box in found], dtype=float).reshape(-1, 4),
    )
