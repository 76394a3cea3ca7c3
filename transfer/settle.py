"""What a configuration leaves open and the machine, the user or the data settles before a run."""

import logging
import secrets
from collections.abc import Sequence
from typing import Any

import torch

from transfer.errors import TransferError

log = logging.getLogger(__name__)


def settle_seed(seed: int) -> int:
    """`seed`, or a fresh one where it is negative (Detectron2's "not set"): a result always has a seed."""
    return seed if seed >= 0 else secrets.randbelow(2**31)


def settle_device(device: str, asked_for: bool, processes: int = 1) -> str:
    """The device to run on: Detectron2's default "cuda" becomes "cpu" on a machine without a GPU, and says so.

    Raises:
        TransferError: the user asked for a GPU that is not there, or for more processes than there are GPUs.
    """
    if processes < 1:
        raise TransferError(
            f"--num-gpus {processes}: at least one process is needed (on a CPU: the number of processes)"
        )
    if not device.startswith("cuda"):
        return device
    if torch.cuda.is_available():
        if processes > torch.cuda.device_count():
            raise TransferError(f"--num-gpus {processes}: this machine has {torch.cuda.device_count()} GPUs")
        return device
    if asked_for:
        raise TransferError(f"MODEL.DEVICE {device}: this machine has no CUDA device, use MODEL.DEVICE cpu")
    log.warning("No CUDA device here: running on the CPU (MODEL.DEVICE cpu).")
    return "cpu"


def settle_classes(config: Any, class_names: Sequence[str], asked_for: bool) -> None:
    """Set MODEL.ROI_HEADS.NUM_CLASSES to the number of classes of the data (or of the weights).

    Raises:
        TransferError: the user asked for another number on the command line.
    """
    count = len(class_names)
    configured = config.MODEL.ROI_HEADS.NUM_CLASSES
    if configured == count:
        return
    if asked_for:
        raise TransferError(
            f"MODEL.ROI_HEADS.NUM_CLASSES {configured}: the data have {count} classes "
            f"({', '.join(class_names)}). Leave the key out: it is set from the data."
        )
    log.info("MODEL.ROI_HEADS.NUM_CLASSES is %d, from the data: %s", count, ", ".join(class_names))
    config.MODEL.ROI_HEADS.NUM_CLASSES = count
