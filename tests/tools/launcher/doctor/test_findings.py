"""tools/launcher/doctor/: what is told without a SLURM, and what follows from what nodes told."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from launcher.cluster.resources import Resources
from launcher.doctor import site
from launcher.doctor.findings import OK, WARNING, WRONG, Finding, summary
from launcher.doctor.limits import check_gpus
from launcher.doctor.request import Request, a_stage
from launcher.doctor.verdict import judge
from tests.conftest import ROOT

PYTHON = {
    **{"python": "3.11.7", "torch": "2.14.1+cu130", "torchvision": "0.29.1", "executable": "python", "faults": []},
    **{"cuda": "13.0", "gpus": ["H100", "H100"], "why": "", "seconds": 9.0},
}
WELL = {"faults": [], "warnings": [], "unchecked": ""}
REDUCED = {"fault": "", "hosts": [], "device": "cuda", "seconds": 0.004, "told": "an all-reduce took 4 ms"}


def told(**changed: Any) -> dict[str, Any]:
    """What the one rank of a node tells that is well."""
    rank = {"host": "gpu1", "first": True, "lag": 0.1, "time": 10.0, "seen": 10.2, "done": True, "lock": "held"}
    return {**rank, "python": PYTHON, "gpus": WELL, "reduced": REDUCED, **changed}


def found(*ranks: dict[str, Any]) -> list[Finding]:
    return judge(ranks, Resources(gpus=2), 2, "job 1 on gpu1: COMPLETED", Path("nowhere"), "1")


def test_a_node_that_is_well_has_nothing_wrong() -> None:
    assert {finding.state for finding in found(told(), told(first=False))} == {OK}


@pytest.mark.parametrize(
    ("changed", "state", "named"),
    [
        ({"lag": None}, WRONG, "gpu1 did not see within a minute what was written here"),
        ({"lag": 21.0}, WARNING, "but late: after 21 s there"),
        ({"lock": "free"}, WARNING, "locks hold within one machine only"),
        ({"python": {**PYTHON, "faults": ["torch cannot be imported: OSError"]}}, WRONG, "gpu1: torch cannot be"),
        ({"python": {**PYTHON, "gpus": ["H100"]}}, WRONG, "2 GPUs were asked for, torch sees 1"),
        ({"python": {**PYTHON, "gpus": [], "cuda": None}}, WRONG, "its torch 2.14.1+cu130 has no CUDA"),
        ({"gpus": {**WELL, "faults": ["GPU 1 has had 3 errors"]}}, WRONG, "gpu1: GPU 1 has had 3 errors"),
        ({"reduced": {**REDUCED, "fault": "rank 1 does not answer", "hosts": ["gpu1"]}}, WRONG, "rank 1 does not"),
        ({"done": False}, WRONG, "only 1 of 2 processes came to their end: job 1 on gpu1"),
    ],
)
def test_what_a_node_lacks_is_told(changed: dict[str, Any], state: str, named: str) -> None:
    (finding,) = [finding for finding in found(told(**changed), told(first=False)) if finding.state != OK]
    assert finding.state == state
    assert named in finding.text


@pytest.mark.parametrize(
    ("gres", "asked", "state"),
    [
        ("4|gpu:a100:4(S:0-1)|idle", {"gpus": 4}, OK),
        ("4|gpu:a100:4(S:0-1)|idle", {"gpus": 8}, WRONG),
        ("4|gpu:a100:4(S:0-1)|idle", {"gpus": 4, "nodes": 5}, WRONG),
        ("4|gpu:a100:4|drained*", {"gpus": 4}, WARNING),
        ("4|(null)|idle", {"gpus": 1}, WRONG),
        ("1|gpu:a100:2,gpu:v100:6|mixed", {"gpus": 8}, OK),
        ("1|gpu:a100:2,gpu:v100:6|mixed", {"sbatch": {"gres": "gpu:a100:4"}}, WRONG),
        ("1|gpu:a100:2,gpu:v100:6|mixed", {"gpus": 2, "gpu_type": "h100"}, WRONG),
        ("1|gpu:a100:2,gpu:v100:6|mixed", {"gpus": 6, "gpu_type": "v100"}, OK),
        ("1|gpu:a100:2,gpu:v100:6|mixed", {"sbatch": {"gres": "gpu:v100:6"}}, OK),
    ],
)
def test_gpus_are_compared_with_those_of_sinfo(
    gres: str, asked: dict[str, Any], state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for sinfo: the SLURM of the tests has one type at a time, and no sockets."""
    (tmp_path / "sinfo").write_text(f"#!/bin/sh\necho '{gres}'\n")
    (tmp_path / "sinfo").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    request = Request((a_stage(Resources(**asked), tmp_path),), ("the job",))
    (finding,) = check_gpus(request, "main", site.nodes("main"))
    assert finding.state == state, finding


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("UNLIMITED", None), ("1-00:00:00", 1440), ("00:30:00", 30), ("05:30", 5.5), ("7-12:00:00", 10800), ("", None)],
)
def test_slurms_times_are_read(text: str, minutes: float | None) -> None:
    assert site.minutes(text) == minutes


def test_the_sum_names_what_to_change() -> None:
    assert summary([Finding(OK, "lock", ""), Finding(WRONG, "GPUs", ""), Finding(WRONG, "GPUs", "")]) == (
        "summary     1 ok, 2 wrong; to change: GPUs"
    )


def test_without_slurm_it_says_so_at_once_and_without_torch(tmp_path: Path) -> None:
    script = str(ROOT / "tools/launch.py")
    code = (
        f"import runpy, sys\nsys.path.insert(0, {str(ROOT / 'tools')!r})\n"
        f"sys.argv = [{script!r}, 'doctor', '--partition', 'gpu', '--dry-run']\n"
        f"try:\n    runpy.run_path({script!r}, run_name='__main__')\n"
        "except SystemExit as end:\n    print('torch' in sys.modules, end.code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={"PATH": str(tmp_path)}, capture_output=True, text=True
    )
    lines = done.stdout.splitlines()
    assert lines[0] == "checks      the cluster, before the first job"
    assert lines[1] == "wrong       SLURM: there is no sbatch on this machine"
    assert "#SBATCH --partition=gpu" in lines  # the job is shown all the same
    assert lines[-1] == "False 2", done.stderr
    assert list(tmp_path.iterdir()) == []
