"""The recognition of Cityscapes' splits by a folder: images and their polygon files in two folders of one name."""

from pathlib import Path

from transfer.data.cityscapes.files import ANNOTATIONS, IMAGES, CityscapesSplit, holds_polygons
from transfer.data.common.data_files import sub_folders


def find_splits(folder: Path) -> list[CityscapesSplit]:
    """Return the annotated splits that a folder names.

    Args:
        folder: leftImg8bit/SPLIT or gtFine/SPLIT, which name that split, or the folder of leftImg8bit/ and gtFine/.
    """
    if folder.parent.name in (IMAGES, ANNOTATIONS):
        splits = [CityscapesSplit.of(folder.parent.parent, folder.name)]
    else:
        splits = [CityscapesSplit.of(folder, images.name) for images in sub_folders(folder / IMAGES)]
    return [split for split in splits if split.images.is_dir() and holds_polygons(split.annotations)]
