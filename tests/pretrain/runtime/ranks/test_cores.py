"""The cores of a process: quotas limit them, threads and workers share them, and threads wait as they should."""

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from pretrain.runtime.ranks import cores as module


def group(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


def test_the_tightest_quota_limits_the_cores(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    own = tmp_path / "own"
    own.write_text("0::/pod/container\n")
    assert module.usable_cores(tmp_path / "groups", own) == 8  # no control groups at all
    group(tmp_path / "groups", cpu__max="max 100000\n")
    group(tmp_path / "groups/pod", cpu__max="350000 100000\n")
    group(tmp_path / "groups/pod/container", cpu__max="600000 100000\n")
    assert module.usable_cores(tmp_path / "groups", own) == 3
    group(tmp_path / "groups/pod/container", cpu__max="50000 100000\n")
    assert module.usable_cores(tmp_path / "groups", own) == 1


def test_quotas_of_version_1_are_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    own = tmp_path / "own"
    own.write_text("7:memory:/docker/1\n4:cpu,cpuacct:/docker/1\n")
    group(tmp_path / "groups/cpu,cpuacct", cpu__cfs_quota_us="-1\n", cpu__cfs_period_us="100000\n")
    assert module.usable_cores(tmp_path / "groups", own) == 8
    group(tmp_path / "groups/cpu,cpuacct/docker/1", cpu__cfs_quota_us="200000\n", cpu__cfs_period_us="100000\n")
    assert module.usable_cores(tmp_path / "groups", own) == 2


def test_cores_are_counted_where_affinity_is_unknown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")  # as on macOS
    assert module.usable_cores(tmp_path, tmp_path / "own") == os.cpu_count()


@pytest.mark.parametrize(
    ("running", "variables", "spins"),
    [
        (1, {}, "20000"),
        (2, {}, "0"),
        (9, {"WORLD_SIZE": "2"}, "20000"),
        (9, {"SLURM_STEP_NUM_TASKS": "2"}, "20000"),
        (9, {"GOMP_SPINCOUNT": "7"}, "7"),
        (9, {"OMP_WAIT_POLICY": "active"}, None),
        (None, {}, "20000"),
    ],
)
def test_threads_spin_only_where_cores_are_free(
    running: int | None, variables: dict[str, str], spins: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.setenv(name, "")  # restored after the test, whatever is set in it
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(module, "usable_cores", lambda: os.cpu_count())
    if running is not None:
        (tmp_path / "stat").write_text(f"cpu 1 2 3\nprocs_running {running}\nprocs_blocked 0\n")
    module.limit_spinning(tmp_path / "stat")
    assert os.environ.get("GOMP_SPINCOUNT") == spins


def test_a_tool_sets_the_spinning_before_torch_is_there(tmp_path: Path) -> None:
    """libgomp prints the value that it works with."""
    launcher = ("GOMP", "OMP", "WORLD_SIZE", "SLURM")
    variables = {name: value for name, value in os.environ.items() if not name.startswith(launcher)}
    code = "from common import cli; cli.run(lambda: __import__('torch'))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**variables, "OMP_DISPLAY_ENV": "verbose", "PYTHONPATH": "tools"},
        cwd=Path(__file__).resolve().parents[4],
        capture_output=True,
        text=True,
        check=True,
    )
    assert re.search(r"GOMP_SPINCOUNT = '(20000|0)'", done.stderr), done.stderr


@pytest.mark.parametrize(
    ("device", "cores", "processes", "workers", "threads"),
    [
        ("cpu", 1, 1, 0, 1), ("cpu", 2, 1, 0, 2), ("cpu", 2, 2, 0, 1), ("cpu", 3, 1, 0, 3), ("cpu", 4, 1, 1, 4),
        ("cpu", 16, 1, 2, 16), ("cpu", 64, 1, 8, 63), ("cpu", 64, 16, 1, 4),
        ("cuda", 1, 1, 1, None), ("cuda", 6, 1, 5, None), ("cuda", 96, 8, 8, None), ("cuda", 4, 8, 1, None),
    ],
)  # fmt: skip
def test_workers_and_threads_follow_from_the_cores(
    device: str, cores: int, processes: int, workers: int, threads: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(module, "usable_cores", lambda: cores)
    found = module.loader_workers(torch.device(device), "auto", processes)
    assert found == workers
    assert module.loader_workers(torch.device(device), 3, processes) == 3
    before = torch.get_num_threads()
    try:
        module.share_cores(torch.device(device), found, processes)
        assert torch.get_num_threads() == (threads or before)
        monkeypatch.setenv("OMP_NUM_THREADS", "1")  # what the user has chosen stays
        torch.set_num_threads(1)
        module.share_cores(torch.device(device), found, processes)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("taken", "threads"), [(0.0, 8), (0.4, 8), (0.6, 7), (3.2, 5), (7.0, 1), (8.0, 1)]
)  # fmt: skip
def test_a_run_takes_the_cores_that_others_leave(taken: float, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(module, "usable_cores", lambda: 8)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    found, notice = module.choose_threads(torch.device("cpu"), 0, 1, cores_taken=lambda: taken)
    assert found == threads
    assert bool(notice) == (threads < 8)
    if notice:
        assert f"has {threads} of 8 threads until its end; OMP_NUM_THREADS=8 " in notice
    assert module.choose_threads(torch.device("cpu"), 0, 2, cores_taken=lambda: taken) == (4, "")


def test_a_quota_limits_threads_though_cores_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(module, "usable_cores", lambda: 2)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert module.choose_threads(torch.device("cpu"), 0, 1, cores_taken=lambda: 5.0) == (2, "")


def test_a_resumed_run_keeps_its_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(module, "usable_cores", lambda: 4)
    cpu = torch.device("cpu")
    assert module.choose_threads(cpu, 0, 1, began_with=3, cores_taken=lambda: 4.0) == (3, "")
    assert module.choose_threads(cpu, 0, 1, began_with=8, cores_taken=lambda: 0.0) == (4, "")  # it has no eight
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert module.choose_threads(cpu, 0, 1, began_with=3) == (torch.get_num_threads(), "")


def test_a_busy_program_is_seen() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as program:
        try:
            assert module.cores_of_others(0.5) > 0.3
        finally:
            program.kill()


def test_programs_of_low_priority_do_not_count(tmp_path: Path) -> None:
    second, status = os.sysconf("SC_CLK_TCK"), tmp_path / "stat"
    status.write_text("cpu  100 100 100 100 100 0 0 0 0 0\ncpu0 1 1 1 1\n")
    after = f"cpu  {100 + second} {100 + 9 * second} 100 100 100 0 0 0 0 0\n"
    threading.Timer(0.1, lambda: status.write_text(after)).start()
    assert 0.1 < module.cores_of_others(1.0, status) <= 1
    assert module.cores_of_others(0.01, tmp_path / "none") == 0
