"""No file of annotations or results ends a process otherwise than by success or a refusal in words."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

FILES = (
    "coco_truth", "coco_results", "voc_xml", "voc_results", "cityscapes_polygons", "cityscapes_results", "label_maps",
    "lvis_truth", "lvis_results", "densepose",
)  # fmt: skip


def refused(kinds: str, first: int, count: int, folder: Path) -> dict[str, int]:
    """Run so many cases of each kind in a process of its own; returns how many of each were refused."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONPATH": f"{ROOT}:{ROOT / 'tools'}",
    }
    command = [
        sys.executable,
        "-W",
        "error",
        "-m",
        "tests.support.transfer.fuzz",
        kinds,
        str(first),
        str(count),
        str(folder),
    ]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900)
    last = done.stdout.strip().rsplit("\n", maxsplit=1)[-1]
    assert done.returncode == 0, f"after '{last}': exit code {done.returncode}\n{done.stderr}"
    return {kind: int(number) for kind, number in re.findall(r"^refused (\w+) (\d+)$", done.stdout, re.MULTILINE)}


def test_some_damaged_files(tmp_path: Path) -> None:
    found = refused(",".join(FILES), 0, 40, tmp_path)
    assert tuple(found) == FILES
    assert all(0 < number < 40 for number in found.values()), found


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kinds", [FILES[:5], FILES[5:]], ids=["first", "last"])
def test_thousands_of_damaged_files(kinds: tuple[str, ...], tmp_path: Path) -> None:
    found = refused(",".join(kinds), 1000, 300, tmp_path)
    assert tuple(found) == kinds
    assert all(75 < number < 300 for number in found.values()), found
