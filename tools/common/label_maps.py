"""The classes of label maps, as users name them on a command line."""

from transfer.data import catalog
from transfer.data.semantic.label_maps import MOST_CLASSES
from transfer.errors import TransferError


def class_names_of(text: str) -> tuple[str, ...]:
    """Return the classes of label maps: for a number as many without names, else as `--classes` of other tools.

    Raises:
        TransferError: no number of classes that label maps can have, or names that are not read.
    """
    if not text.lstrip("-").isdigit():
        return catalog.parse_class_names(text)
    if not 1 <= int(text) <= MOST_CLASSES:
        raise TransferError(f"{catalog.CLASSES_FLAG} {text}: from 1 to {MOST_CLASSES} classes are expected")
    return catalog.parse_class_names(text)
