"""The origin of a run's numbers: the revision of the code, the versions it runs on, and the machine.

torch is imported by the functions that ask it: the launcher reads the revision without it.
"""

from __future__ import annotations

import importlib.metadata
import os
import pathlib
import platform
import re
import subprocess
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

ROOT = pathlib.Path(__file__).resolve().parents[2]
NOTE = "REVISION"  # a file of a snapshot of the code (tools/launch.py makes them) that holds its commit
PACKAGES = ("moco-transfer", "torch", "torchvision", "numpy", "pillow", "fvcore", "triton")


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
    """Describe what a later reader needs to know of a run's machine; of its environment variables only cuBLAS's."""
    import torch

    from pretrain.runtime import distributed

    return {
        "versions": {"python": platform.python_version(), **package_versions(PACKAGES)},
        "git": revision(),
        "seed": seed,
        "device": device_name(device),
        "machine": describe_machine(device),
        "processes": distributed.world_size(),
        "threads": torch.get_num_threads(),
        "accelerator": accelerator_versions(),
        "arithmetic": arithmetic_flags(),
    }


def describe_machine(device: torch.device) -> dict[str, str | None]:
    """Return the models of this machine's processor and of the GPU in use: others compute other last bits."""
    import torch

    gpu = device_name(device) if device.type == "cuda" else None
    return {"processor": device_name(torch.device("cpu")), "gpu": gpu}


def accelerator_versions() -> dict[str, str | None]:
    """Return the versions of CUDA, cuDNN and NCCL that torch has, and of this machine's driver; None: it has none."""
    import torch.cuda.nccl
    import torch.distributed

    cudnn, nccl = torch.backends.cudnn.version(), None
    if torch.distributed.is_available() and torch.distributed.is_nccl_available():
        nccl = ".".join(map(str, torch.cuda.nccl.version()))
    return {
        "cuda": torch.version.cuda,
        "cudnn": str(cudnn) if cudnn else None,
        "nccl": nccl,
        "driver": _driver_version(pathlib.Path("/proc/driver/nvidia/version")),
    }


def _driver_version(file: pathlib.Path) -> str | None:
    """Return the version of NVIDIA's driver from the file in which its kernel module says it; None without one."""
    try:
        found = re.search(r"Kernel Module\b.*?(\d+(?:\.\d+)+)", file.read_text())
    except OSError:
        return None
    return found.group(1) if found else None


def arithmetic_flags() -> dict[str, Any]:
    """Return the flags of this process that change the bits or the digits of what torch computes."""
    import torch

    cudnn = torch.backends.cudnn
    return {
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "tf32_in_matrix_products": torch.backends.cuda.matmul.allow_tf32,
        "tf32_in_convolutions": cudnn.allow_tf32,
        "cudnn_benchmark": cudnn.benchmark,
        "cudnn_deterministic": cudnn.deterministic,
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "CUBLAS_WORKSPACE_CONFIG": os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
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
        import torch

        return torch.cuda.get_device_name(device)
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()} ({os.cpu_count()} cores)"
