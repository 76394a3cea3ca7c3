"""Cityscapes' semantic segmentation by Detectron2's names: 19 classes, from the maps of train ids."""

from collections.abc import Sequence
from pathlib import Path

from pretrain.runtime.errors import listed
from transfer.data.cityscapes.files import IMAGE_END, CityscapesSplit, cityscapes_folder
from transfer.data.common.data_files import sub_folders
from transfer.data.common.dataset import CLASSES_FROM, DataKind, Dataset
from transfer.data.common.faults import Findings, Rules
from transfer.data.semantic.dataset import join_label_maps
from transfer.data.semantic.reading import LabelledImage
from transfer.errors import TransferError

CLASS_NAMES = (
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation", "terrain",
    "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
)  # fmt: skip
_SPLITS = {f"cityscapes_fine_sem_seg_{split}": split for split in ("train", "val")}
_LABEL_END = "_gtFine_labelTrainIds.png"
_MAKE_TRAIN_IDS = (
    "maps of train ids are not in the download: csCreateTrainIdLabelImgs of the package cityscapesscripts makes them "
    "of the polygons (CITYSCAPES_DATASET names the folder with gtFine)"
)


def load_cityscapes_label_maps(
    names: tuple[str, ...], root: Path, class_names: Sequence[str] | None, rules: Rules
) -> Dataset:
    """Read splits of Cityscapes with their maps of train ids and join them in the order of `names`.

    Args:
        root: the folder that holds leftImg8bit/ and gtFine/, or cityscapes/ with them.
        class_names: the classes of a model; they must be Cityscapes' 19.

    Raises:
        TransferError: lists what is missing or malformed; or a model has other classes.
    """
    if class_names is not None and tuple(class_names) != CLASS_NAMES:
        raise TransferError(
            f"{', '.join(names)}: the classes are Cityscapes' 19, not {listed(class_names, 19)} {CLASSES_FROM}"
        )
    findings = Findings(rules)
    images = [image for name in names for image in find_cityscapes_images(name, root, findings)]
    return join_label_maps(names, CITYSCAPES_LABEL_MAPS, images, CLASS_NAMES, rules, findings)


def find_cityscapes_images(name: str, root: Path, findings: Findings) -> list[LabelledImage]:
    """Return the images of a data set by city and name, with the files of their label maps.

    Raises:
        TransferError: there are none.
    """
    split = CityscapesSplit.of(cityscapes_folder(root), _SPLITS[name])
    found = []
    for city in sub_folders(split.images):
        for path in sorted(city.glob(f"*{IMAGE_END}")):
            image_id = path.name.removesuffix(IMAGE_END)
            label_map = split.annotations / city.name / f"{image_id}{_LABEL_END}"
            found.append(LabelledImage(image_id, path, label_map))
    if not found:
        raise TransferError(f"{split.images}: holds no images as CITY/*{IMAGE_END}")
    if any(not image.label_map.is_file() for image in found):
        findings.repairs["label_map"] = _MAKE_TRAIN_IDS
    return found


# Images are FOLDER/leftImg8bit/val/CITY/x_leftImg8bit.png; the folder itself is a root, too.
CITYSCAPES_LABEL_MAPS = DataKind(
    "cityscapes_sem_seg",
    tuple(_SPLITS),
    load_cityscapes_label_maps,
    image_depth=3,
    class_names=CLASS_NAMES,
    has_label_maps=True,
)
