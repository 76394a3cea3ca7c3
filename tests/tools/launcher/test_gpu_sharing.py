"""tools/launcher/sharing.py: made-up GPUs, for no machine of the tests has one, of real processes."""

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import pytest

from launcher import sharing
from launcher.cluster import local
from launcher.sharing import chosen_gpus, free_gpus, visible_gpus
from tests.conftest import ROOT
from tests.support.launched import controller
from tests.support.waiting import wait_until
from tests.tools.launcher.health import nvidia_smi

FOUR = "".join(f"GPU {n}: NVIDIA A100 (UUID: GPU-{n}{n}{n}{n})\n" for n in range(4))


@pytest.fixture(autouse=True)
def four_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine of four, by a stand-in for nvidia-smi."""
    monkeypatch.setenv("PATH", nvidia_smi.write(tmp_path / "bin", {"-L": FOUR}))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    sharing._installed.cache_clear()
    yield
    sharing._installed.cache_clear()


@pytest.mark.parametrize(
    ("named", "visible"),
    [
        (None, ("0", "1", "2", "3")),
        ("", ()),
        ("3", ("3",)),
        ("2, 1", ("2", "1")),
        ("GPU-22,GPU-1111", ("GPU-22", "GPU-1111")),
        ("MIG-8932f937", ("MIG-8932f937",)),
        ("1,7,2", ("1",)),  # as CUDA takes it: none behind one that is not there
        ("-1", ()),
    ],
)
def test_the_gpus_of_the_shell_are_those_that_it_names(
    named: str | None, visible: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    if named is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert visible_gpus() == visible


def in_another_shell(code: str, *words: object) -> str:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tools'}"}
    command = [sys.executable, "-c", code, *map(str, words)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_torch_is_not_asked_where_nvidia_smi_answers() -> None:
    code = "import sys; from launcher import sharing as g; print(g.visible_gpus(), 'torch' in sys.modules)"
    assert in_another_shell(code) == "('0', '1', '2', '3') False"


SUBMIT = """
import sys
from pathlib import Path
from launcher import jobs
from launcher.cluster.resources import Resources
from launcher.record import Record
from launcher.stages.options import ReportOptions
from launcher.stages.stage import Stage
folder, code, gpus, tool = sys.argv[1:]
stage = Stage("report", ReportOptions((), "x"), "x", folder + "/result", Resources(gpus=int(gpus)))
print(jobs.submit_local(stage, Record(Path(folder), "local", folder), Path(code), (sys.executable, "-c", tool), 1))
"""
TOOL = """
import os, time
with open(f"rank_{os.environ.get('RANK', 0)}", "w") as file:
    print(os.environ["CUDA_VISIBLE_DEVICES"], file=file)
time.sleep(300)
"""


def test_jobs_of_two_shells_get_gpus_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-3333,GPU-0000,GPU-1111")
    given = {"one": (1, "GPU-3333"), "pair": (2, "GPU-0000,GPU-1111"), "none": (0, ""), "shares": (1, "GPU-3333")}
    jobs = []
    try:
        for name, (gpus, expected) in given.items():
            folder = tmp_path / name
            job = in_another_shell(SUBMIT, folder, ROOT, gpus, TOOL)
            jobs.append((job, (folder / "launch/logs/report").resolve()))
            for file in (folder / f"rank_{rank}" for rank in range(gpus or 1)):
                wait_until(lambda file=file: file.exists() and file.read_text(), f"{name} runs")  # type: ignore[misc]
                assert file.read_text().strip() == expected
    finally:
        local.end(jobs, grace=0)


def test_the_gpus_of_live_jobs_of_any_run_are_not_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,2")
    with controller(tmp_path / "logs of one run"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,2,1,0")
        assert free_gpus() == ("3", "1")
        assert chosen(1) == ("3",)
        assert chosen(3) == ("3", "1", "2")  # too few are free: one is shared
    assert free_gpus() == ("3", "2", "1", "0")
    assert chosen(0) == ()


def chosen(number: int) -> tuple[str, ...]:
    with chosen_gpus(number) as gpus:
        return gpus


def test_jobs_that_start_at_once_get_gpus_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    smi = tmp_path / "bin" / "nvidia-smi"
    smi.write_text(smi.read_text().replace("\n", "\nsleep 1\n", 1))  # both look before either has started its job
    names = ("one", "other")
    with futures.ThreadPoolExecutor() as shells:
        found = list(shells.map(lambda name: in_another_shell(SUBMIT, tmp_path / name, ROOT, 1, TOOL), names))
    try:
        files = [tmp_path / name / "rank_0" for name in names]
        wait_until(lambda: all(file.exists() and file.read_text() for file in files), "both run")
        assert {file.read_text().strip() for file in files} == {"0", "1"}
    finally:
        logs = [(tmp_path / name / "launch/logs/report").resolve() for name in names]
        local.end(zip(found, logs, strict=True), grace=0)
