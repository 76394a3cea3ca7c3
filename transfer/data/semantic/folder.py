"""Images and label maps of a user's own: two folders with files of the same names."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from transfer.data.common.data_files import DataFiles
from transfer.data.common.dataset import DataKind, Dataset
from transfer.data.common.faults import Findings, Rules
from transfer.data.semantic.dataset import join_label_maps
from transfer.data.semantic.image_list import read_image_list
from transfer.data.semantic.label_maps import SUFFIX
from transfer.data.semantic.reading import LabelledImage
from transfer.data.voc.files import IMAGE_SUFFIXES, FilesById
from transfer.errors import TransferError


def load_label_map_files(files: tuple[DataFiles, ...], class_names: Sequence[str] | None, rules: Rules) -> Dataset:
    """Read images with label maps that are named by path, and join them.

    Args:
        class_names: of index 0, 1, ...; None: as many as the label maps show, without names.

    Raises:
        TransferError: lists what is missing or malformed, each with its path.
    """
    names, findings = tuple(part.name for part in files), Findings(rules)
    images = [image for part in files for image in find_labelled_images(part, findings)]
    return replace(join_label_maps(names, LABEL_MAPS, images, class_names, rules, findings), files=files)


def find_labelled_images(files: DataFiles, findings: Findings) -> list[LabelledImage]:
    """Return the images of a data set with the files of their label maps: those of its list, else all of them.

    Args:
        findings: every fault is added: an image or a label map that is missing.
    """
    label_maps = FilesById(files.annotations, (SUFFIX,))
    image_files = FilesById(files.images, IMAGE_SUFFIXES)
    if files.image_list:
        ids = read_image_list(files.image_list, label_maps, findings)
    else:
        ids = sorted({*image_files.ids(), *label_maps.ids()})
    found = []
    for image_id in ids:
        maps = label_maps.find(image_id)
        label_map = maps[0] if maps else files.annotations / f"{image_id}{SUFFIX}"
        try:
            image = image_files.file(image_id)
        except TransferError as error:
            findings.add("image_file", str(label_map), str(error))
            continue
        found.append(LabelledImage(image_id, image, label_map))
    return found


def _load_named(names: tuple[str, ...], root: Path, class_names: Sequence[str] | None, rules: Rules) -> Dataset:
    raise TransferError(f"{', '.join(names)}: images with label maps of your own are named by path")


LABEL_MAPS = DataKind("semantic", (), _load_named, has_label_maps=True, load_files=load_label_map_files)
