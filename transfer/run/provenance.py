"""The provenance of a run's numbers: the resolved config, the command, the versions, the machine."""

import json
import os
import platform
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from pretrain.runtime import files, provenance
from transfer import results

_PACKAGES = ("torch", "torchvision", "detectron2", "pycocotools", "fvcore", "numpy", "pillow")


def write_provenance(output: Path, config: Any, command: Sequence[str], init: results.Init) -> None:
    """Write config.yaml, command.txt and env.json into `output`. env.json holds no environment variable."""
    output.mkdir(parents=True, exist_ok=True)
    files.save_text(output / "config.yaml", config.dump())
    files.save_text(output / "command.txt", shlex.join(command) + "\n")
    environment = {
        "versions": installed_versions(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "git": provenance.revision(),
        "seed": config.SEED,
        "init": asdict(init),
    }
    files.save_text(output / "env.json", json.dumps(environment, indent=2) + "\n")


def installed_versions() -> dict[str, str]:
    """Return the versions of the packages that a run depends on; what is not installed is left out."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def describe_device(kind: str, processes: int, threads: int) -> results.Device:
    """Return the device of a run, by the name that its maker gave it."""
    if kind.startswith("cuda"):
        return results.Device("cuda", torch.cuda.get_device_name(), processes, threads)
    return results.Device(kind, _processor(), processes, threads)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()} ({os.cpu_count()} cores)"
