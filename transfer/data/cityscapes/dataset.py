"""The data sets of Cityscapes' instance segmentation by Detectron2's names."""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import shapely

from pretrain.runtime.errors import listed
from pretrain.runtime.host import usable_cores
from pretrain.runtime.progress import track
from transfer.data.cityscapes.files import CityscapesSplit, Frame, cityscapes_folder, find_frames
from transfer.data.cityscapes.labels import INSTANCE_CLASSES, INSTANCE_IDS
from transfer.data.cityscapes.polygon_file import Drawing, read_drawing
from transfer.data.cityscapes.visible_parts import fault_of_outline, visible_annotations
from transfer.data.common.data_files import DataFiles
from transfer.data.common.dataset import CLASSES_FROM, DataKind, Dataset
from transfer.data.common.faults import Findings, Rules
from transfer.errors import TransferError

log = logging.getLogger(__name__)

_SPLITS = {f"cityscapes_fine_instance_seg_{split}": split for split in ("train", "val", "test")}


def load_cityscapes(names: tuple[str, ...], root: Path, class_names: Sequence[str] | None, rules: Rules) -> Dataset:
    """Read splits of Cityscapes and join them in the order of `names`.

    Args:
        root: the folder that holds cityscapes/, or leftImg8bit/ and gtFine/ themselves.
        class_names: the classes that a model was trained on; Cityscapes has no others than its own 8.

    Raises:
        TransferError: lists what is missing or malformed, each with its path.
    """
    base = cityscapes_folder(root)
    splits = tuple(CityscapesSplit.of(base, _SPLITS[name]) for name in names)
    return _join(names, splits, class_names, rules)


def load_cityscapes_files(files: tuple[DataFiles, ...], class_names: Sequence[str] | None, rules: Rules) -> Dataset:
    """Read splits in Cityscapes' layout that are named by path, and join them.

    Args:
        class_names: as `load_cityscapes` takes them.

    Raises:
        TransferError: lists what is missing or malformed, each with its path.
    """
    splits = tuple(CityscapesSplit(part.images, part.annotations) for part in files)
    return replace(_join(tuple(part.name for part in files), splits, class_names, rules), files=files)


def examine_split(split: CityscapesSplit, findings: Findings) -> list[dict[str, Any]]:
    """Return the records that pass by the rules of `findings`, to which every fault is added.

    Image files are looked for, not opened.
    """
    frames = find_frames(split, findings)
    drawings = [read_drawing(frame.polygons, findings) for frame in frames]
    read = [(frame, drawing) for frame, drawing in zip(frames, drawings, strict=True) if drawing is not None]
    findings.totals["images"] = len(frames)
    findings.totals["objects"] += sum(len(drawing.outlines) for _, drawing in read)
    records = []
    # shapely works outside Python's lock.
    with ThreadPoolExecutor(usable_cores()) as pool:
        made = pool.map(lambda pair: _record(*pair), read)
        for record, faults in track(made, "outlines", total=len(read)):
            for fault in faults:  # in the order of the images, whichever thread was first
                findings.add(*fault)
            records.append(record)
    return records


def _record(frame: Frame, drawing: Drawing) -> tuple[dict[str, Any], list[tuple[str, str, str]]]:
    """Return the record of an image, and (kind, place, description) of each fault of its outlines."""
    height, width = drawing.size
    outlines = drawing.outlines
    found: list[tuple[str, str, str]] = []
    try:
        annotations = visible_annotations(outlines)
    except (ValueError, shapely.errors.GEOSException) as error:
        faults = {index: what for index, outline in enumerate(outlines) if (what := fault_of_outline(outline))}
        found = [("outline", f"{frame.polygons}: {outlines[index].label.name}", what) for index, what in faults.items()]
        if not faults:
            found = [("file", str(frame.polygons), f"its outlines cannot be laid over each other: {error}")]
        sound = [outline for index, outline in enumerate(outlines) if index not in faults]
        annotations = visible_annotations(sound) if faults else []
    record = {
        "file_name": str(frame.image),
        "image_id": frame.image_id,
        "height": height,
        "width": width,
        "annotations": annotations,
    }
    return record, found


def _join(
    names: tuple[str, ...], splits: tuple[CityscapesSplit, ...], class_names: Sequence[str] | None, rules: Rules
) -> Dataset:
    title = ", ".join(names)
    if class_names is not None and tuple(class_names) != INSTANCE_CLASSES:
        raise TransferError(
            f"{title}: the classes are {', '.join(INSTANCE_CLASSES)}, not {listed(class_names, 20)} {CLASSES_FROM}"
        )
    findings = Findings(rules)
    joined: list[dict[str, Any]] = []
    for split in splits:
        joined += examine_split(split, findings)
        findings.raise_if_refused(split.annotations)
    shown = {item["category_id"] for record in joined for item in record["annotations"]}
    if absent := [name for index, name in enumerate(INSTANCE_CLASSES) if index not in shown]:
        log.warning("%s: no object of %d of the 8 classes: %s", title, len(absent), ", ".join(absent))
    return Dataset(names, CITYSCAPES, INSTANCE_CLASSES, INSTANCE_IDS, joined, splits, rules, findings.counts())


# Images are FOLDER/leftImg8bit/val/frankfurt/x.png; the folder itself is a root, too.
CITYSCAPES = DataKind(
    "cityscapes",
    tuple(_SPLITS),
    load_cityscapes,
    image_depth=3,
    class_names=INSTANCE_CLASSES,
    load_files=load_cityscapes_files,
)
