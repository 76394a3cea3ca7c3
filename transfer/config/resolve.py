"""What a configuration leaves open and the machine or the user settles before a run: seed and device."""

import logging
import secrets

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
