"""The origin of a fine-tuning run's numbers, in its folder and in its result."""

import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from pretrain.runtime import files, provenance, run_folder
from transfer import results
from transfer.data import labels
from transfer.data.labels import LabelledImages
from transfer.engines.common.arithmetic import arithmetic
from transfer.run import data_record
from transfer.run.data_record import Records

_PACKAGES = ("torch", "torchvision", "detectron2", "pycocotools", "fvcore", "numpy", "pillow")


def write_provenance(
    output: Path,
    config: Any,
    command: Sequence[str],
    engine: str,
    init: results.Init,
    data: Records,
    labelled: LabelledImages | None = None,
) -> None:
    """Write config.yaml, command.txt, env.json and data.json into `output`: what a later attempt is compared with.

    With `labelled`, labels.txt too, the list of the images whose labels are used.
    """
    with arithmetic(config):
        flags = provenance.arithmetic_flags()
    environment = {
        "versions": installed_versions(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "git": provenance.revision(),
        "machine": provenance.describe_machine(torch.device(config.MODEL.DEVICE)),
        "accelerator": provenance.accelerator_versions(),
        "arithmetic": flags,
        "engine": engine,
        "seed": config.SEED,
        "init": asdict(init),
    }
    run_folder.write_description(output, config.dump(), command, environment)
    data_record.write_records(output, data)
    if labelled is not None:
        files.save_text(output / labels.FILE_NAME, labelled.text)


def machine_name(config: Any) -> str:
    """Return the models of this machine's GPU, where the run uses one, and of its processor."""
    return ", ".join(filter(None, provenance.describe_machine(torch.device(config.MODEL.DEVICE)).values()))


def other_machine(output: Path, config: Any) -> str | None:
    """Return a notice where the run in `output` ran on another kind of machine before `write_provenance`."""
    return run_folder.other_machine(output, provenance.describe_machine(torch.device(config.MODEL.DEVICE)))


def installed_versions() -> dict[str, str]:
    """Return the installed versions of what a run stands on; packages that are not installed are left out."""
    return provenance.package_versions(_PACKAGES)


def describe_device(kind: str, processes: int, threads: int) -> results.Device:
    """Describe the device of a run, MODEL.DEVICE `kind`, by the name that its maker gave it."""
    used = torch.device(kind)
    return results.Device(used.type, provenance.device_name(used), processes, threads)
