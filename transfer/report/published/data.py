"""The published data sets behind Detectron2's names: their size and classes, by which own data are told from them."""

from collections.abc import Sequence
from dataclasses import dataclass

from transfer.data.cityscapes.labels import INSTANCE_CLASSES
from transfer.data.coco.records import CLASS_NAMES as COCO_CLASSES
from transfer.data.semantic.cityscapes import CLASS_NAMES as CITYSCAPES
from transfer.data.semantic.voc import CLASS_NAMES as VOC_SEGMENTATION
from transfer.data.voc.records import CLASS_NAMES as VOC_CLASSES
from transfer.results import Task


@dataclass(frozen=True)
class PublishedData:
    """A published data set.

    Args:
        title: its name in words.
        images: the number of its images; further ones count only the images that have objects.
        class_names: in the order of their index; () where only their number is compared.
        count: the number of classes, needed where `class_names` is ().
    """

    title: str
    images: tuple[int, ...]
    class_names: tuple[str, ...]
    count: int = 0

    @property
    def classes(self) -> int:
        """The number of classes."""
        return len(self.class_names) or self.count

    def has(self, class_names: Sequence[str]) -> bool:
        """Return True if these are its classes."""
        return tuple(class_names) == self.class_names if self.class_names else len(class_names) == self.classes


_VOC: dict[str, dict[str, int]] = {
    "2007": {"trainval": 5011, "train": 2501, "val": 2510, "test": 4952},
    "2012": {"trainval": 11540, "train": 5717, "val": 5823},
}
# All images, those with objects, and for keypoints those with people and with people who have keypoints.
_COCO: dict[str, dict[str, tuple[int, ...]]] = {
    "2014": {"train": (82783,), "val": (40504,), "minival": (5000,), "valminusminival": (35504,)},
    "2017": {"train": (118287, 117266), "val": (5000, 4952), "val_100": (100,)},
}
_PEOPLE: dict[str, dict[str, tuple[int, ...]]] = {"2017": {"train": (64115, 56599), "val": (2693, 2346)}}
_CITYSCAPES = {"train": (2975, 2965), "val": (500,), "test": (1525,)}
PUBLISHED = {
    f"voc_{year}_{split}": PublishedData(f"PASCAL VOC {year} {split}", (images,), VOC_CLASSES)
    for year, splits in _VOC.items()
    for split, images in splits.items()
}
PUBLISHED |= {
    f"cityscapes_fine_instance_seg_{split}": PublishedData(f"Cityscapes {split}, instances", images, INSTANCE_CLASSES)
    for split, images in _CITYSCAPES.items()
}
for _year, _splits in _COCO.items():
    for _split, _images in _splits.items():
        _people = (*_images[:1], *_PEOPLE.get(_year, {}).get(_split, ()))
        PUBLISHED |= {
            f"coco_{_year}_{_split}": PublishedData(f"COCO {_year} {_split}", _images, COCO_CLASSES),
            f"keypoints_coco_{_year}_{_split}": PublishedData(f"COCO {_year} {_split} keypoints", _people, ("person",)),
        }
# Label maps; train_aug is VOC's train and SBD's images without those of val.
_VOC_LABEL_MAPS = {"train": 1464, "train_aug": 10582, "val": 1449, "trainval": 2913}
PUBLISHED |= {
    f"voc_2012_sem_seg_{split}": PublishedData(f"PASCAL VOC 2012 segmentation {split}", (images,), VOC_SEGMENTATION)
    for split, images in _VOC_LABEL_MAPS.items()
}
PUBLISHED |= {
    f"cityscapes_fine_sem_seg_{split}": PublishedData(f"Cityscapes fine {split}", (images,), CITYSCAPES)
    for split, images in {"train": 2975, "val": 500}.items()
}


# All images, and those with objects.
_LVIS: dict[str, tuple[int, dict[str, tuple[int, ...]]]] = {
    "v0.5": (1230, {"train": (57263, 56740), "val": (5000,), "val_rand_100": (100,)}),
    "v1": (1203, {"train": (100170, 99388), "val": (19809,)}),
}
PUBLISHED |= {
    f"lvis_{version}_{split}": PublishedData(f"LVIS {version} {split}", images, (), classes)
    for version, (classes, splits) in _LVIS.items()
    for split, images in splits.items()
}


def describe_data(images: int, classes: int) -> str:
    """Return "40 images of 5 classes"."""
    return f"{images:,} image{'' if images == 1 else 's'} of {classes} class{'' if classes == 1 else 'es'}"


def published_differences(task: Task) -> list[str]:
    """Describe how the data of a task differ from the published data of their names; empty where they do not.

    Sets that have no published namesake, such as those of another kind, differ from nothing.
    """
    parts = [("training", task.train, task.train_images), ("test", task.test, task.test_images)]
    return [
        f"{what} data: {describe_data(images, len(task.class_names))}, published {describe(names)}"
        for what, names, images in parts
        if images and not _are_published(names, images, task.class_names)
    ]


def is_published_test(task: Task) -> bool:
    """Return True where the test data are what their names say, or names that nothing published has."""
    return _are_published(task.test, task.test_images, task.class_names)


def describe(names: Sequence[str]) -> str:
    """Return the published data of these names: "PASCAL VOC 2007 test (4,952 images of 20 classes)"."""
    sets = [PUBLISHED[name] for name in names if name in PUBLISHED]
    title = " and ".join(one.title for one in sets)
    return f"{title} ({describe_data(sum(one.images[0] for one in sets), sets[0].classes)})" if sets else "none"


def _are_published(names: Sequence[str], images: int, class_names: Sequence[str]) -> bool:
    sets = [PUBLISHED.get(name) for name in names]
    if not sets or None in sets:
        return True
    counts = {0}
    for one in sets:
        counts = {count + own for count in counts for own in (one.images if one else ())}
    return images in counts and all(one is not None and one.has(class_names) for one in sets)
