"""The files of one split of Cityscapes: each image with the files that annotate it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from transfer.data.common.faults import Findings
from transfer.errors import TransferError

IMAGES, ANNOTATIONS = "leftImg8bit", "gtFine"  # folders beside each other; both have train/, val/ and test/
IMAGE_END = "_leftImg8bit.png"
_POLYGONS = "_gtFine_polygons.json"
_INSTANCES = "_gtFine_instanceIds.png"


def cityscapes_folder(root: Path) -> Path:
    """Return the folder of leftImg8bit/ and gtFine/: `root`, or cityscapes/ in it.

    Raises:
        TransferError: it is neither.
    """
    for folder in (root, root / "cityscapes"):
        if (folder / IMAGES).is_dir() and (folder / ANNOTATIONS).is_dir():
            return folder
    raise TransferError(
        f"{root}: holds neither {IMAGES}/ and {ANNOTATIONS}/ nor cityscapes/ with them (the packages "
        "leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip of cityscapes-dataset.com, unpacked side by side)"
    )


@dataclass(frozen=True)
class CityscapesSplit:
    """A split of Cityscapes.

    Args:
        images: the folder of the images, such as leftImg8bit/val; they lie in a folder for each city.
        annotations: the folder of the files that annotate them, such as gtFine/val, with the same folders.
    """

    images: Path
    annotations: Path

    @classmethod
    def of(cls, folder: Path, split: str) -> "CityscapesSplit":
        """Return a split of a folder that holds leftImg8bit/ and gtFine/."""
        return cls(folder / IMAGES / split, folder / ANNOTATIONS / split)


class Frame(NamedTuple):
    """An annotated image: its name, "frankfurt_000000_000294", its image, and the folder of its other files."""

    name: str
    image: Path
    folder: Path

    @property
    def image_id(self) -> str:
        """The id of the image: the name of its file, as Detectron2 has it."""
        return self.image.name

    @property
    def polygons(self) -> Path:
        """The file of the outlines of its objects."""
        return self.folder / f"{self.name}{_POLYGONS}"

    @property
    def instances(self) -> Path:
        """The image in which each object has a number of its own."""
        return self.folder / f"{self.name}{_INSTANCES}"


def frame_name(text: str) -> str:
    """Return the name of a frame from the name of one of its files, or from the name itself."""
    for end in (IMAGE_END, IMAGE_END.removesuffix(".png"), _INSTANCES, _POLYGONS):
        if text.endswith(end):
            return text.removesuffix(end)
    return text


def find_frames(split: CityscapesSplit, findings: Findings) -> list[Frame]:
    """Return the images of a split with the folders of their annotations, sorted by the path of the image.

    Args:
        findings: the rules for faults; folders that are missing or hold no image are added.
    """
    for folder in (split.images, split.annotations):
        if not folder.is_dir():
            findings.add("file", str(folder), f"no such folder ({IMAGES}/ and {ANNOTATIONS}/ hold one for each split)")
            return []
    found = [
        Frame(frame_name(path.name), path, split.annotations / path.parent.name)
        for path in sorted(split.images.glob(f"*/*{IMAGE_END}"))
    ]
    if not found:
        findings.add("file", str(split.images), f"holds no image CITY/CITY_SEQUENCE_FRAME{IMAGE_END}")
    without = {path.name.removesuffix(_POLYGONS): path for path in split.annotations.glob(f"*/*{_POLYGONS}")}
    for frame in found:
        without.pop(frame.name, None)
    for name, path in sorted(without.items()):
        findings.add("image_file", str(path), f"{split.images / path.parent.name / name}{IMAGE_END}: no such image")
    return found


def holds_polygons(folder: Path) -> bool:
    """Return True if a folder such as gtFine/val has a folder with polygon files."""
    return next(folder.glob(f"*/*{_POLYGONS}"), None) is not None


def find_instance_images(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield the name and the path of each instance image in a folder such as gtFine/val, or in its folders; sorted."""
    for path in sorted({*folder.glob(f"*{_INSTANCES}"), *folder.glob(f"*/*{_INSTANCES}")}):
        yield frame_name(path.name), path
