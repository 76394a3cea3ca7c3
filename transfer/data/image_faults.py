"""Whether the images that annotations speak of are there, readable, and of the size that they state."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from transfer.data.faults import Findings
from transfer.data.images import image_size
from transfer.errors import TransferError


class Stated(NamedTuple):
    """An image as annotations have it: the place where they do, its file, and (height, width) or None."""

    where: str
    file: Path
    size: tuple[int, int] | None


def check(images: Iterable[Stated], findings: Findings) -> None:
    """Add a fault for each image that is not as stated. Reads headers alone: tools/check_images.py decodes."""
    for image in images:
        try:
            height, width = image_size(image.file)
        except TransferError as error:
            findings.add("image_file", image.where, str(error))
            continue
        if image.size is not None and image.size != (height, width):
            stated = f"{image.size[1]} x {image.size[0]}"
            findings.add("image_file", image.where, f"{image.file} is {width} x {height}, not {stated}")
