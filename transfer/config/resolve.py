"""The resolved configuration of a run: seed, device, classes and scale. No other module changes a configuration.

A configuration is frozen from `load_config` of an engine on; `with_settings` makes a changed copy, frozen again.
"""

import logging
import secrets
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import torch

from pretrain.runtime import host
from transfer.config import scale
from transfer.errors import TransferError
from transfer.results import Scaled

log = logging.getLogger(__name__)

Config = Any  # fvcore's CfgNode or Detectron2's: the same vocabulary


def with_settings(config: Config, settings: Mapping[str, Any]) -> Config:
    """Return a frozen copy of `config` with other values of `settings`, by full names ("MODEL.DEVICE").

    Raises:
        KeyError: a name that the configuration does not have.
    """
    changed = config.clone()
    changed.defrost()
    for key, value in settings.items():
        *sections, name = key.split(".")
        node = changed
        for section in sections:
            node = node[section]
        if name not in node:
            raise KeyError(key)
        node[name] = value
    changed.freeze()
    return changed


def choose_seed(seed: int) -> int:
    """Return `seed`, or a fresh one where it is negative (Detectron2's "not set"): a result always has a seed."""
    return seed if seed >= 0 else secrets.randbelow(2**31)


def choose_device(device: str, given: bool, processes: int = 1) -> str:
    """Return the device to run on; Detectron2's default "cuda" becomes "cpu", with a warning, where there is no GPU.

    Args:
        device: MODEL.DEVICE.
        given: the user named it.
        processes: on this machine.

    Raises:
        TransferError: the user named MPS or a GPU that is not there, or more processes than there are GPUs.
    """
    if processes < 1:
        raise TransferError(
            f"--num-gpus {processes}: at least one process is needed (on a CPU: the number of processes)"
        )
    if device.startswith("mps"):
        raise TransferError(f"MODEL.DEVICE {device}: {host.NO_MPS}")
    if not device.startswith("cuda"):
        return device
    if torch.cuda.is_available():
        if processes > torch.cuda.device_count():
            raise TransferError(f"--num-gpus {processes}: this machine has {torch.cuda.device_count()} GPUs")
        return device
    if given:
        raise TransferError(f"MODEL.DEVICE {device}: this machine has no CUDA device, use MODEL.DEVICE cpu")
    log.warning("No CUDA device here: running on the CPU (MODEL.DEVICE cpu).")
    return "cpu"


def is_semantic(config: Config) -> bool:
    """Return True for a model of semantic segmentation, which predicts label maps; the others predict detections."""
    return bool(config.MODEL.META_ARCHITECTURE == "SemanticSegmentor")


def is_densepose(config: Config) -> bool:
    """Return True for a detector with the head of DensePose, whose settings only such configurations have."""
    return bool(config.MODEL.get("DENSEPOSE_ON", False))


def class_key(config: Config) -> str:
    """Return the full name of the setting that holds the number of classes: RetinaNet and FCN have their own."""
    parts = {"RetinaNet": "RETINANET", "SemanticSegmentor": "SEM_SEG_HEAD"}
    return f"MODEL.{parts.get(config.MODEL.META_ARCHITECTURE, 'ROI_HEADS')}.NUM_CLASSES"


def class_count(config: Config) -> int:
    """Return the number of classes: of a detector without background, of semantic segmentation all."""
    return config.MODEL[class_key(config).split(".")[1]].NUM_CLASSES


def with_data_sets(config: Config, train: Sequence[str], test: Sequence[str]) -> Config:
    """Return `config` with the names of the data sets to train and to test on."""
    return with_settings(config, {"DATASETS.TRAIN": tuple(train), "DATASETS.TEST": tuple(test)})


def with_classes_of_data(config: Config, class_names: Sequence[str], overrides: Sequence[str]) -> Config:
    """Return `config` with the number of classes that the data have.

    Raises:
        TransferError: `overrides`, the user's KEY VALUE pairs, give another number.
    """
    count, configured, key = len(class_names), class_count(config), class_key(config)
    if configured == count:
        return config
    if key in overrides:
        raise TransferError(
            f"{key} {configured}: the data have {count} classes "
            f"({', '.join(class_names)}). Leave the key out: it is set from the data."
        )
    log.info("%s is %d, from the data: %s", key, count, ", ".join(class_names))
    return with_settings(config, {key: count})


def with_scale(config: Config, gpus: int) -> tuple[Config, Scaled]:
    """Return `config` as it is on `gpus` GPUs by the linear rule, and what was scaled.

    Raises:
        TransferError: as transfer.config.scale.scaled_settings.
    """
    settings, scaled = scale.scaled_settings(config, gpus)
    return with_settings(config, settings), scaled


def with_fewer_labels(config: Config, fraction: Fraction, overrides: Sequence[str]) -> Config:
    """Return `config` with the schedule for a fraction of its labelled images, and log what has changed.

    The arguments are those of transfer.config.scale.shortened_settings.
    """
    settings = scale.shortened_settings(config, fraction, overrides)
    if not settings:
        return config
    changed = ", ".join(f"{key} {value}" for key, value in settings.items())
    log.info("the schedule for %.3g %% of the labels: %s", 100 * float(fraction), changed)
    return with_settings(config, settings)
