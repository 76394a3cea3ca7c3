"""The recognition of images with label maps by a folder or a list: two folders with files of the same names."""

from itertools import islice
from pathlib import Path

from pretrain.runtime.errors import listed
from transfer.data.common.data_files import sub_folders
from transfer.data.semantic.label_maps import SUFFIX
from transfer.data.voc.files import IMAGE_SUFFIXES, FilesById
from transfer.errors import TransferError

_IMAGES = ("images", "image", "imgs", "img", "jpegimages", "photos", "frames", "leftimg8bit")
_LABELS = (
    "labels", "label", "label_maps", "labelmaps", "masks", "mask", "annotations", "annotation", "segmentation",
    "segmentations", "segmentationclass", "segmentationclassaug", "semantic", "gt", "ground_truth",
)  # fmt: skip
_SAMPLE = 20  # label maps whose images are looked for
_LEVELS = 4  # folders from a list up to that of the data: ImageSets/Segmentation/train.txt


def find_label_map_folders(folder: Path) -> tuple[Path, Path] | None:
    """Return the folders of images and of label maps in a folder, or of the part of both that it is; None if none.

    Args:
        folder: such as cells/train with images/ and labels/ in it, or cells/images/train beside cells/labels/train.

    Raises:
        TransferError: several folders hold label maps of the images.
    """
    if folder.parent.name.lower() in _IMAGES:
        images, below = folder, sub_folders(folder.parent.parent)
        labels = [child / folder.name for child in below if child.name.lower() in _LABELS]
    else:
        below = sub_folders(folder)
        found = [child for child in below if child.name.lower() in _IMAGES]
        if len(found) != 1:
            return None
        images, labels = found[0], [child for child in below if child.name.lower() in _LABELS]
    labels = [child for child in labels if child.is_dir() and holds_label_maps(child, images)]
    if len(labels) > 1:
        raise TransferError(
            f"{folder}: {len(labels)} folders hold label maps ({listed(labels, 4)}); name one, in a YAML file for "
            f"--data: {{images: {images}, annotations: {labels[0]}}}"
        )
    return (images, labels[0]) if labels else None


def holds_label_maps(labels: Path, images: Path) -> bool:
    """Return True if a folder holds PNG files by the names of images in another one."""
    image_files = FilesById(images, IMAGE_SUFFIXES)
    ids = FilesById(labels, (SUFFIX,)).ids()
    return any(image_files.find(image_id) for image_id in islice(ids, _SAMPLE))


def holds_png_files(folder: Path) -> bool:
    """Return True if a folder holds PNG files, itself or in its folders."""
    return folder.is_dir() and bool(FilesById(folder, (SUFFIX,)).ids())


def folders_of_list(path: Path) -> tuple[Path, Path] | None:
    """Return the folders of images and of label maps of the nearest folder above a list of images; None if none."""
    found = (find_label_map_folders(folder) for folder in list(path.parents)[:_LEVELS])
    return next((folders for folders in found if folders), None)


def find_image_folder(labels: Path) -> Path:
    """Return the folder of images that lies beside a folder of label maps.

    Raises:
        TransferError: there is none that holds their images, or there are several.
    """
    beside = [child for child in sub_folders(labels.parent) if child != labels and holds_label_maps(labels, child)]
    if len(beside) != 1:
        what = (
            f"several folders hold its images: {listed(beside, 4)}" if beside else "no folder beside it has its images"
        )
        raise TransferError(
            f"{labels}: {what}; name the folder of its images: {{annotations: {labels}, images: FOLDER}}"
        )
    return beside[0]
