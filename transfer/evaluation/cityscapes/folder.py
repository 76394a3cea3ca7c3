"""Instance masks scored against a folder of instance images, which tools do without torch."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from transfer.data.cityscapes.files import find_instance_images
from transfer.data.common.faults import Findings
from transfer.errors import TransferError, refuse
from transfer.evaluation.cityscapes.ap import evaluate_cityscapes
from transfer.evaluation.cityscapes.instance_image import InstanceImage, instance_image_size, read_instance_image
from transfer.evaluation.cityscapes.results import rows_by_frame


def score_folder(folder: Path, rows: Sequence[Any], source: str, findings: Findings | None = None) -> dict[str, Any]:
    """Score rows of instance masks against a folder of instance images.

    Args:
        folder: such as gtFine/val; every instance image in it, or in a folder of it, is scored.
        rows: as `transfer.evaluation.cityscapes.results.rows_by_frame` takes them.
        source: the name of the rows in messages, such as their file.
        findings: the rules for faults of the rows; every fault is added. None: the default rules.

    Returns:
        As `evaluate_cityscapes`.

    Raises:
        TransferError: the folder has no instance image, two of one name, or one that cannot be read; or it lists what
            the rules refuse of the rows.
    """
    findings = findings or Findings()
    paths: dict[str, Path] = {}
    faults = []
    for name, path in find_instance_images(folder):
        if name in paths:
            faults.append(f"{path}: {paths[name]} has the same name")
        paths[name] = path
    if not paths:
        faults.append(f"{folder}: holds no CITY/CITY_SEQUENCE_FRAME_gtFine_instanceIds.png")
    refuse(faults)
    sizes = instance_image_sizes(paths)
    found = rows_by_frame(rows, sizes, source, findings)
    findings.raise_if_refused(source)
    return evaluate_cityscapes(pair_images_with_rows(paths, found))


def instance_image_sizes(paths: Mapping[str, Path]) -> dict[str, tuple[int, int]]:
    """Return (height, width) of each instance image, by the name of its frame.

    Raises:
        TransferError: lists the images that cannot be read.
    """
    sizes, faults = {}, []
    for name, path in paths.items():
        try:
            sizes[name] = instance_image_size(path)
        except TransferError as error:
            faults.append(str(error))
    refuse(faults)
    return sizes


def pair_images_with_rows(
    paths: Mapping[str, Path], rows: Mapping[str, Sequence[Mapping[str, Any]]]
) -> Iterator[tuple[InstanceImage, Sequence[Mapping[str, Any]]]]:
    """Yield each instance image, read as it is needed, with the rows of its frame."""
    for name, path in paths.items():
        yield read_instance_image(path), rows[name]
