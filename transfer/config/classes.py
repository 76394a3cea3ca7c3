"""Where a configuration holds the number of classes, and that it is that of the data."""

import logging
from collections.abc import Sequence
from typing import Any

from transfer.errors import TransferError

log = logging.getLogger(__name__)


def class_key(config: Any) -> str:
    """The full name of the setting: RetinaNet has its own."""
    part = "RETINANET" if config.MODEL.META_ARCHITECTURE == "RetinaNet" else "ROI_HEADS"
    return f"MODEL.{part}.NUM_CLASSES"


def class_count(config: Any) -> int:
    """The number of classes, background not counted."""
    return _section(config).NUM_CLASSES


def set_class_count(config: Any, count: int) -> None:
    """Set the number of classes."""
    _section(config).NUM_CLASSES = count


def settle_classes(config: Any, class_names: Sequence[str], asked_for: bool) -> None:
    """Set the number of classes to that of the data (or of the weights).

    Args:
        asked_for: the user gave a number on the command line.

    Raises:
        TransferError: the user asked for another number.
    """
    count, configured, key = len(class_names), class_count(config), class_key(config)
    if configured == count:
        return
    if asked_for:
        raise TransferError(
            f"{key} {configured}: the data have {count} classes "
            f"({', '.join(class_names)}). Leave the key out: it is set from the data."
        )
    log.info("%s is %d, from the data: %s", key, count, ", ".join(class_names))
    set_class_count(config, count)


def _section(config: Any) -> Any:
    return config.MODEL[class_key(config).split(".")[1]]
