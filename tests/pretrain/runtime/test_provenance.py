"""The versions that a run's numbers stand on."""

from pathlib import Path

import pytest
import torch

from pretrain.runtime import provenance

CLOSED = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\n"
OPEN = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (dvs-builder@U22)\n"


@pytest.mark.parametrize(("text", "version"), [(CLOSED, "535.104.05"), (OPEN, "580.65.06"), ("something else", None)])
def test_the_drivers_version_is_its_modules_own(text: str, version: str | None, tmp_path: Path) -> None:
    (tmp_path / "version").write_text(text + "GCC version:  gcc version 12.2.0 (Debian 12.2.0-14)\n")
    assert provenance._driver_version(tmp_path / "version") == version
    assert provenance._driver_version(tmp_path / "none") is None


def test_a_run_says_its_accelerators_software_and_flags() -> None:
    found = provenance.describe_environment(torch.device("cpu"), 0)
    assert found["accelerator"].keys() == {"cuda", "cudnn", "nccl", "driver"}
    assert found["accelerator"]["cuda"] == torch.version.cuda
    assert found["arithmetic"]["tf32_in_convolutions"] is torch.backends.cudnn.allow_tf32
