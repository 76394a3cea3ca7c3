"""The origin of a run's numbers: the revision of the code, the versions it runs on, and the machine."""

import importlib.metadata
import os
import pathlib
import platform
import subprocess
from collections.abc import Iterable
from typing import Any

import torch

from pretrain.runtime import distributed

ROOT = pathlib.Path(__file__).resolve().parents[2]
NOTE = "REVISION"  # a file of a snapshot of the code (tools/launch.py makes them) that holds its commit
PACKAGES = ("moco-transfer", "torch", "torchvision", "numpy", "pillow", "fvcore")


def revision() -> str | None:
    """Return the commit of this code, with `+changes` where files differ; None where neither git nor a note knows."""
    note = ROOT / NOTE
    if note.is_file():
        return note.read_text().strip() or None
    try:
        if pathlib.Path(_git("rev-parse", "--show-toplevel")) != ROOT:  # a copy of the code in somebody's checkout
            return None
        return _git("rev-parse", "HEAD") + ("+changes" if _git("status", "--porcelain") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()


def describe_environment(device: torch.device, seed: int) -> dict[str, Any]:
    """Describe what a later reader needs to know of a pretraining run's machine; none of its environment variables."""
    return {
        "versions": {"python": platform.python_version(), **package_versions(PACKAGES)},
        "git": revision(),
        "seed": seed,
        "device": device_name(device),
        "processes": distributed.world_size(),
        "threads": torch.get_num_threads(),
    }


def package_versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the installed version of each package; packages that are not installed are left out."""
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def device_name(device: torch.device) -> str:
    """Return the name that its maker gave the device: of a GPU, or of this machine's processor and its cores."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()} ({os.cpu_count()} cores)"
