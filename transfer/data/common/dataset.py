"""An annotated data set as every part of the transfer stage sees it, and the kind of data that it is of."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transfer.data.common.data_files import DataFiles
from transfer.data.common.faults import Rules

CLASSES_FROM = "(the classes are those of --classes, of the detector in MODEL.WEIGHTS, or else of the training data)"


@dataclass(frozen=True)
class DataKind:
    """A kind of annotated data: the names of its data sets, and the function that reads them.

    `transfer.data.catalog` lists the kinds. What scores them is `transfer.evaluation.kinds`, by the kind's name.

    Args:
        name: as in result.json's task.kind, such as "coco".
        dataset_names: what DATASETS.TRAIN and DATASETS.TEST may name.
        load: (names, root folder, class names or None, rules for faults) -> Dataset. Class names None: from the data.
        image_depth: folders from the root down to an image's own, 2 for ROOT/VOC2007/JPEGImages/x.jpg. By this a
            report finds the root again from the images of a run.
        class_names: of a detector that names none of its own and has as many classes; () where there is no standard.
        has_label_maps: every pixel of an image has a class; False: an image has objects.
        load_files: (files, class names or None, rules for faults) -> Dataset, of data that are named by path. None:
            this kind has only data sets by name.
        find: (names, root folder) -> the folders that `load` would read, or the error that it would begin with; quick,
            for no annotation is read. None: this kind has no such look. Not a lambda: other processes get the kind.
    """

    name: str
    dataset_names: tuple[str, ...]
    load: "Callable[[tuple[str, ...], Path, Sequence[str] | None, Rules], Dataset]"
    image_depth: int = 1
    class_names: tuple[str, ...] = ()
    has_label_maps: bool = False
    load_files: "Callable[[tuple[DataFiles, ...], Sequence[str] | None, Rules], Dataset] | None" = None
    find: "Callable[[tuple[str, ...], Path], object] | None" = None


@dataclass(frozen=True)
class Dataset:
    """A set of images with their objects, read once and then the same for both engines and the evaluator.

    Args:
        names: of the data sets joined here, such as ("voc_2007_trainval", "voc_2012_trainval").
        kind: the kind of all of them.
        class_names: of class 0, 1, ...
        category_ids: the annotation file's id of each class (COCO: the json's; VOC: 0, 1, ...).
        records: Detectron2's standard dicts, one an image (those of a planned run are packed, transfer.data.shared):
            file_name, image_id (VOC: str, COCO: int), height, width,
            annotations: [{bbox XYXY in absolute pixels, bbox_mode 0, category_id contiguous from 0, iscrowd (COCO),
            segmentation (COCO: polygons, or a compressed run-length mask), keypoints (COCO: x, y, visibility of each),
            difficult (VOC: 0 or 1)}]. Of label maps: sem_seg_file_name, and annotations: [{category_id, pixels}] of
            the classes that occur.
        annotations: what the evaluator of this kind reads, one for each name: a VocSplit, the path of the COCO json.
        rules: for faults of the annotations, which the evaluator applies too.
        faults: "KIND=RULE" -> the number of faults that this rule was applied to.
        has_keypoints: every object has a person's 17 keypoints.
        files: of data that are named by path, in the order of `names`; () for data sets by name.
    """

    names: tuple[str, ...]
    kind: DataKind
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    records: Sequence[dict[str, Any]]
    annotations: tuple[Any, ...]
    rules: Rules = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)
    has_keypoints: bool = False
    files: tuple[DataFiles, ...] = ()
