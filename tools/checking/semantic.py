"""The check of images with label maps: by name in VOC's and Cityscapes' folders, or two folders of a user's own."""

import argparse
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from common.label_maps import class_names_of
from common.subcommand import SubCommand
from pretrain.runtime.host import user_path
from transfer.data import catalog
from transfer.data.common.data_files import DataFiles
from transfer.data.common.faults import Findings
from transfer.data.common.image_files import StatedImage, check_image_files
from transfer.data.semantic import cityscapes, voc
from transfer.data.semantic.folder import find_labelled_images
from transfer.data.semantic.label_maps import IGNORED
from transfer.data.semantic.reading import LabelledImage, examine_values, read_label_contents
from transfer.errors import TransferError

_BY_NAME: dict[str, Callable[[str, Path, Findings], list[LabelledImage]]] = {
    voc.VOC_LABEL_MAPS.name: voc.find_voc_images,
    cityscapes.CITYSCAPES_LABEL_MAPS.name: cityscapes.find_cityscapes_images,
}


def check_semantic(arguments: argparse.Namespace, findings: Findings) -> str:
    """Check a data set by its name, or two folders; return a summary of its contents."""
    if arguments.name is not None and arguments.dataset_root is not None:
        kind = next((kind for kind in _kinds() if arguments.name in kind.dataset_names), None)
        if kind is None:
            known = ", ".join(name for one in _kinds() for name in one.dataset_names)
            raise TransferError(f"--name {arguments.name}: no data with label maps have this name; known: {known}")
        images = _BY_NAME[kind.name](arguments.name, arguments.dataset_root, findings)
        return _check_images(arguments.name, images, kind.class_names, arguments, findings)
    if arguments.images is None or arguments.labels is None:
        raise TransferError("name the data by --name NAME --dataset-root ROOT, or by --images DIR --labels DIR")
    files = DataFiles(arguments.labels.name, "semantic", arguments.images, arguments.labels, arguments.list)
    return check_label_map_files(files, arguments, findings)


def check_label_map_files(files: DataFiles, arguments: argparse.Namespace, findings: Findings) -> str:
    """Check images with label maps that are named by path; return a summary of their contents."""
    names = None if arguments.classes is None else class_names_of(arguments.classes)
    return _check_images(files.name, find_labelled_images(files, findings), names, arguments, findings)


def _kinds() -> list[catalog.DataKind]:
    return [catalog.kind_named(name) for name in _BY_NAME]


def _check_images(
    title: str,
    images: Sequence[LabelledImage],
    class_names: Sequence[str] | None,
    arguments: argparse.Namespace,
    findings: Findings,
) -> str:
    contents = read_label_contents(images, findings)
    pixels = Counter[int]()
    for content in contents:
        pixels.update({value: int(count) for value, count in enumerate(content.pixels if content else ()) if count})
    ignored = pixels.pop(IGNORED, 0)
    if class_names is None:
        class_names = tuple(f"class {index}" for index in range(max(pixels, default=-1) + 1))
    examine_values(images, contents, len(class_names), findings)
    stated = [
        StatedImage(str(image.label_map), image.image, content.size)
        for image, content in zip(images, contents, strict=True)
        if content is not None
    ]
    check_image_files(stated, findings, decode=not arguments.headers_only)
    if not pixels:
        findings.add("no_object", title, "no pixel has a class")
    total = max(1, pixels.total() + ignored)
    shares = [(class_names[value], count) for value, count in pixels.most_common() if value < len(class_names)]
    by_class = ", ".join(f"{name} {count / total:.1%}" for name, count in [*shares, ("ignored", ignored)] if count)
    return (
        f"{len(images)} images, {len(shares)} of {len(class_names)} classes occur (of the pixels: {by_class or 'none'})"
    )


def _add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", help="a data set by name, such as voc_2012_sem_seg_train_aug")
    parser.add_argument(
        "--dataset-root", type=user_path, metavar="ROOT", help="the folder with VOC2012/ or cityscapes/"
    )
    parser.add_argument("--images", type=user_path, metavar="DIR", help="or a folder of images")
    parser.add_argument("--labels", type=user_path, metavar="DIR", help="and one of PNG files of the same names")
    parser.add_argument("--list", type=user_path, metavar="FILE", help="the images of these alone, a name on each line")
    parser.add_argument("--classes", metavar="N", help="the number of classes, or their names (default: of the labels)")
    parser.set_defaults(check=check_semantic, masks="no")


SEMANTIC = SubCommand(
    "semantic",
    "images with label maps, PNG files of class indices",
    (
        "check_dataset.py semantic --name voc_2012_sem_seg_train_aug --dataset-root data",
        "check_dataset.py semantic --images cells/images --labels cells/labels --classes 3",
    ),
    _add_flags,
)
