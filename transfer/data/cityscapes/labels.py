"""The labels of Cityscapes: their names, their numbers in label images, and their part in training and evaluation."""

from typing import NamedTuple

GROUP = "group"  # ends the label of a region whose objects are not told apart, such as "cargroup"
OBJECTS_FROM = 1000  # in an instance image: an object has the value label id * 1000 + number, a group the label id


class Label(NamedTuple):
    """A label of Cityscapes.

    Args:
        name: as the polygon files have it.
        id: in label images and results; -1 for one that is never drawn.
        has_instances: its objects are told apart.
        is_void: its pixels do not count in evaluation.
    """

    name: str
    id: int
    has_instances: bool
    is_void: bool


# Name, id, has_instances, is_void.
LABELS = (
    Label("unlabeled", 0, False, True),
    Label("ego vehicle", 1, False, True),
    Label("rectification border", 2, False, True),
    Label("out of roi", 3, False, True),
    Label("static", 4, False, True),
    Label("dynamic", 5, False, True),
    Label("ground", 6, False, True),
    Label("road", 7, False, False),
    Label("sidewalk", 8, False, False),
    Label("parking", 9, False, True),
    Label("rail track", 10, False, True),
    Label("building", 11, False, False),
    Label("wall", 12, False, False),
    Label("fence", 13, False, False),
    Label("guard rail", 14, False, True),
    Label("bridge", 15, False, True),
    Label("tunnel", 16, False, True),
    Label("pole", 17, False, False),
    Label("polegroup", 18, False, True),
    Label("traffic light", 19, False, False),
    Label("traffic sign", 20, False, False),
    Label("vegetation", 21, False, False),
    Label("terrain", 22, False, False),
    Label("sky", 23, False, False),
    Label("person", 24, True, False),
    Label("rider", 25, True, False),
    Label("car", 26, True, False),
    Label("truck", 27, True, False),
    Label("bus", 28, True, False),
    Label("caravan", 29, True, True),
    Label("trailer", 30, True, True),
    Label("train", 31, True, False),
    Label("motorcycle", 32, True, False),
    Label("bicycle", 33, True, False),
    Label("license plate", -1, False, True),
)

_BY_NAME = {label.name: label for label in LABELS}
_INSTANCE_LABELS = tuple(label for label in LABELS if label.has_instances and not label.is_void)
INSTANCE_CLASSES = tuple(label.name for label in _INSTANCE_LABELS)  # class 0 to 7 of instance segmentation
INSTANCE_IDS = tuple(label.id for label in _INSTANCE_LABELS)  # the label id of each of them
VOID_IDS = tuple(label.id for label in LABELS if label.is_void and label.id >= 0)


def find_label(text: str) -> tuple[Label, bool] | None:
    """Return the label that a polygon file names, and True for a group of its objects; None for an unknown name."""
    if text in _BY_NAME:
        return _BY_NAME[text], text.endswith(GROUP)
    label = _BY_NAME.get(text.removesuffix(GROUP)) if text.endswith(GROUP) else None
    return None if label is None else (label, True)
