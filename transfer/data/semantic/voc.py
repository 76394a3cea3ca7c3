"""PASCAL VOC's semantic segmentation by name: VOC 2012 with its own labels, or with SBD's added to them.

The list train_aug (10,582 images: VOC's 1,464 and 9,118 of SBD's) is handed round in two forms, which are both read:
train_aug.txt or trainaug.txt lists all of them, with their label maps in SegmentationClassAug; or aug.txt lists the
9,118 alone, and the 1,464 of train.txt keep VOC's own label maps in SegmentationClass.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

from pretrain.runtime.errors import listed
from transfer.data.common.dataset import CLASSES_FROM, DataKind, Dataset
from transfer.data.common.faults import Findings, Rules
from transfer.data.semantic.dataset import join_label_maps
from transfer.data.semantic.image_list import read_image_list
from transfer.data.semantic.label_maps import IGNORED, SUFFIX
from transfer.data.semantic.reading import LabelledImage
from transfer.data.voc.files import IMAGE_SUFFIXES, IMAGES, FilesById, sub_folder
from transfer.data.voc.records import CLASS_NAMES as OBJECTS
from transfer.errors import TransferError

CLASS_NAMES = ("background", *OBJECTS)
LISTS, OWN, AUGMENTED = "ImageSets/Segmentation", "SegmentationClass", "SegmentationClassAug"
_YEAR = "VOC2012"
_TRAIN_AUG = "train_aug"
_WHOLE_LISTS, _ADDED_LIST = ("train_aug.txt", "trainaug.txt"), "aug.txt"
_SPLITS = {f"voc_2012_sem_seg_{split}": split for split in (_TRAIN_AUG, "train", "val", "trainval")}

log = logging.getLogger(__name__)


def load_voc_label_maps(names: tuple[str, ...], root: Path, class_names: Sequence[str] | None, rules: Rules) -> Dataset:
    """Read splits of VOC 2012 with their label maps and join them in the order of `names`.

    Args:
        root: the folder that holds VOC2012/, or VOCdevkit/ with it.
        class_names: the classes of a model; they must be background and VOC's 20.

    Raises:
        TransferError: lists what is missing or malformed; the images of train_aug meet those of val; or a model has
            other classes.
    """
    if class_names is not None and tuple(class_names) != CLASS_NAMES:
        raise TransferError(
            f"{', '.join(names)}: the classes are background and PASCAL VOC's 20, not {listed(class_names, 21)} "
            f"{CLASSES_FROM}"
        )
    folder, findings = _year_folder(root), Findings(rules)
    splits = [_Split(folder, _SPLITS[name], findings) for name in names]
    findings.raise_if_refused(", ".join(names))
    images = [image for split in splits for image in split.images]
    dataset = join_label_maps(names, VOC_LABEL_MAPS, images, CLASS_NAMES, rules, findings)
    for name, split in zip(names, splits, strict=True):
        if split.split == _TRAIN_AUG:
            log.info("%s: %s", name, split.described(dataset))
    return dataset


def find_voc_images(name: str, root: Path, findings: Findings) -> list[LabelledImage]:
    """Return the images of a data set with the files of their label maps; every fault of its lists is added."""
    return _Split(_year_folder(root), _SPLITS[name], findings).images


class _Split:
    """The images of a split, with the label map that each of them has."""

    def __init__(self, folder: Path, split: str, findings: Findings) -> None:
        self.split = split
        self._lists = sub_folder(folder, LISTS)
        self._image_files = FilesById(sub_folder(folder, IMAGES), IMAGE_SUFFIXES)
        self._own = FilesById(sub_folder(folder, OWN), (SUFFIX,))
        self._augmented = FilesById(sub_folder(folder, AUGMENTED), (SUFFIX,))
        self.images: list[LabelledImage] = []
        self.sources: list[str] = []
        for path, label_maps in self._parts():
            ids = read_image_list(path, label_maps, findings)
            if split == _TRAIN_AUG:
                _refuse_images_of_val(path, ids, self._lists / "val.txt", self._own)
            found = [self._labelled(image_id, label_maps, findings) for image_id in ids]
            self.images += [image for image in found if image is not None]
            self.sources.append(f"{len(ids)} of {path.name} with label maps of {label_maps.folder.name}")

    def _parts(self) -> list[tuple[Path, FilesById]]:
        """Return the lists of the split, each with the label maps that it goes with."""
        if self.split != _TRAIN_AUG:
            return [(self._lists / f"{self.split}.txt", self._own)]
        if not self._augmented.folder.is_dir():
            raise TransferError(
                f"{self._augmented.folder}: no such folder; the label maps of SBD's images lie there, which VOC does "
                "not have (voc_2012_sem_seg_train trains on VOC's own 1,464 images)"
            )
        whole = [self._lists / name for name in _WHOLE_LISTS if (self._lists / name).is_file()]
        added = self._lists / _ADDED_LIST
        if whole:
            return [(whole[0], self._augmented)]
        if added.is_file():
            return [(self._lists / "train.txt", self._own), (added, self._augmented)]
        raise TransferError(
            f"{self._lists}: no list of the augmented images: {' or '.join(_WHOLE_LISTS)} with all of them, or "
            f"{_ADDED_LIST} with those that train.txt does not have"
        )

    def _labelled(self, image_id: str, label_maps: FilesById, findings: Findings) -> LabelledImage | None:
        try:
            image = self._image_files.file(image_id)
        except TransferError as error:
            findings.add("image_file", str(self._image_files.folder / image_id), str(error))
            return None
        found = label_maps.find(image_id)
        return LabelledImage(image_id, image, found[0] if found else label_maps.folder / f"{image_id}{SUFFIX}")

    def described(self, dataset: Dataset) -> str:
        """Return which lists and label maps were read, and how many of those ignore the edges of objects."""
        own = {str(image.label_map) for image in self.images}
        records = [record for record in dataset.records if record["sem_seg_file_name"] in own]
        with_edges = sum(
            sum(item["pixels"] for item in record["annotations"]) < record["height"] * record["width"]
            for record in records
        )
        return (
            f"{len(records)} images ({'; '.join(self.sources)}); {with_edges} label maps have pixels of {IGNORED}, "
            "which are not learnt (SBD's have none)"
        )


def _refuse_images_of_val(path: Path, ids: Sequence[str], val: Path, label_maps: FilesById) -> None:
    """Refuse a list that shares images with val, on which results are reported; SBD's own train.txt does."""
    if not val.is_file():
        return
    tested = set(read_image_list(val, label_maps, Findings()))
    if shared := [image_id for image_id in ids if image_id in tested]:
        raise TransferError(
            f"{path}: {len(shared)} of its {len(ids)} images are in {val.name}, too ({listed(shared, 3)}): a result on "
            "val would be one on images trained on. Remove them from the list"
        )


def _year_folder(root: Path) -> Path:
    for folder in (sub_folder(root, _YEAR), sub_folder(root, f"VOCdevkit/{_YEAR}")):
        if folder.is_dir():
            return folder
    raise TransferError(
        f"{root}: holds neither {_YEAR}/ nor VOCdevkit/{_YEAR}/; data of your own are named by path: --train FOLDER "
        "--test FOLDER, each with images/ and labels/"
    )


# Images are ROOT/VOC2012/JPEGImages/x.jpg.
VOC_LABEL_MAPS = DataKind(
    "voc_sem_seg",
    tuple(_SPLITS),
    load_voc_label_maps,
    image_depth=2,
    class_names=CLASS_NAMES,
    has_label_maps=True,
)
