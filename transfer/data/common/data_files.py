"""The files of a data set that a user names by path, and the search for the folder of its images."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pretrain.runtime.errors import listed
from transfer.errors import TransferError

# Names of the folders that hold annotations alone, whose images lie in another one.
ANNOTATION_FOLDERS = frozenset(
    ("annotations", "annotation", "annots", "anns", "xml", "xmls", "labels", "label", "json", "jsons", "coco", "voc")
)


@dataclass(frozen=True)
class DataFiles:
    """The files of a data set that a user names by path, which has no place in the folders of the built-in ones.

    Args:
        name: as DATASETS.TRAIN and DATASETS.TEST, messages, results and reports have it.
        format: name of the kind of data, such as "coco".
        images: the folder of the images.
        annotations: COCO: the annotation file. VOC: the folder of the XML files. Of label maps: their folder.
            Cityscapes: gtFine/SPLIT.
        image_list: VOC and label maps: the text file with an image's name on each line; None: every image that has
            annotations.
    """

    name: str
    format: str
    images: Path
    annotations: Path
    image_list: Path | None = None

    def described(self) -> dict[str, str]:
        """Return the format and the absolute paths, as result.json has them."""
        paths = {"images": self.images, "annotations": self.annotations, "list": self.image_list}
        return {"format": self.format} | {key: str(path.absolute()) for key, path in paths.items() if path}

    @classmethod
    def from_described(cls, name: str, described: dict[str, str]) -> "DataFiles":
        """Return the files that `described` describes."""
        image_list = described.get("list")
        images, annotations = Path(described["images"]), Path(described["annotations"])
        return cls(name, described["format"], images, annotations, Path(image_list) if image_list else None)


def fullest_folders(tiers: Iterable[Iterable[Path]], count: Callable[[Path], int]) -> list[Path]:
    """Return the folders that hold the most images of some annotations, of the first tier where any holds one.

    Args:
        tiers: the folders where images may lie, the likeliest first.
        count: how many of the images a folder holds.
    """
    for tier in tiers:
        counts = {folder: count(folder) for folder in dict.fromkeys(tier) if folder.is_dir()}
        most = max(counts.values(), default=0)
        if most:
            return [folder for folder, number in counts.items() if number == most]
    return []


def only_folder(found: Sequence[Path], annotations: Path, name: str) -> Path:
    """Return the folder of the images of some annotations, where exactly one is found.

    Args:
        found: the folders that hold them.
        annotations: a COCO file, or a folder of XML files.
        name: of one of the images.

    Raises:
        TransferError: no folder holds them, or several do.
    """
    if len(found) == 1:
        return found[0]
    what = f"several folders hold its images: {listed(found, 4)}" if found else f"no folder near it holds {name!r}"
    raise TransferError(
        f"{annotations}: {what}; name the folder of its images, in a YAML file for --data: "
        f"{{annotations: {annotations.name}, images: FOLDER}}"
    )


def folder_of_data(annotations: Path) -> Path:
    """Return the folder of the data to which a folder with annotations belongs: itself, or the one above annotations/.

    Images are looked for nowhere else: the data beside it may have images of the same names.
    """
    folder = annotations
    while folder.name.lower() in ANNOTATION_FOLDERS:
        folder = folder.parent
    return folder


def sub_folders(folder: Path) -> Sequence[Path]:
    """Return the folders in a folder that are not hidden, sorted; none where it cannot be listed."""
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError:
        return []
