"""The home folder stands for ~, quotas limit the cores, freed memory stays with the process."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pretrain.runtime import host
from pretrain.runtime.errors import UserError

PROGRAM = """
import resource, sys, torch
from pretrain.runtime import host
if sys.argv[1] == "keep" and not host.keep_freed_memory():
    sys.exit(3)
for turn in range(20):
    if turn == 15:  # by then the heap has room for aligned blocks between the others
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.empty(12 * 2**20).fill_(1)  # 48 MB
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(mode: str) -> int:
    """Of taking 48 MB again and again, in a process of its own."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, mode], capture_output=True, text=True, check=False)
    if done.returncode == 3:
        pytest.skip("this C library has no mallopt")
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.slow
def test_memory_once_taken_is_not_paid_for_again() -> None:
    assert page_faults("keep") < 20 < page_faults("default")  # with pages of 2 MB 120 of them, with small ones 60,000


def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert host.expand_home("~/images") == "/home/me/images"
    assert host.expand_home("~") == "/home/me"
    assert host.user_path("~/x.yaml") == Path("/home/me/x.yaml")
    for other in ("images", "./~/images", "/a/~b", "s3://bucket/~x", "random", ""):
        assert host.expand_home(other) == other
    assert host.expand_home("~root/x") == os.path.expanduser("~root/x") != "~root/x"


def test_a_url_is_no_path_of_a_tool() -> None:
    with pytest.raises(UserError, match=r"https://host/moco.pth.tar: a URL is not read or written here; download"):
        host.user_path("https://host/moco.pth.tar")


def test_a_config_is_named_by_path_or_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("voc_r50_c4_24k", "voc_r50_c4_24k.yaml"):
        assert host.config_path(name, "transfer") == host.CONFIGS / "transfer" / "voc_r50_c4_24k.yaml"
    (tmp_path / "voc_r50_c4_24k.yaml").touch()
    assert host.config_path("voc_r50_c4_24k.yaml", "transfer") == Path("voc_r50_c4_24k.yaml"), "a file here comes first"
    assert host.config_path("my/voc.yaml", "transfer") == Path("my/voc.yaml")


def test_a_misspelt_config_is_told_the_names_near_it() -> None:
    message = r"voc_r50_c4_24: no such file, and no configuration of configs/transfer/ .*near: voc_r50_c4_24k.yaml"
    with pytest.raises(UserError, match=message):
        host.config_path("voc_r50_c4_24", "transfer")


def test_a_tilde_of_no_user_is_refused_unless_it_is_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"~nobody-here/x: ~nobody-here is the home folder of no user here"):
        host.expand_home("~nobody-here/x")
    (tmp_path / "~backup.txt").touch()
    assert host.expand_home("~backup.txt") == "~backup.txt"


def group(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


def test_the_tightest_quota_limits_the_cores(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    own = tmp_path / "own"
    own.write_text("0::/pod/container\n")
    assert host.usable_cores(tmp_path / "groups", own) == 8  # no control groups at all
    group(tmp_path / "groups", cpu__max="max 100000\n")
    group(tmp_path / "groups/pod", cpu__max="350000 100000\n")
    group(tmp_path / "groups/pod/container", cpu__max="600000 100000\n")
    assert host.usable_cores(tmp_path / "groups", own) == 3
    group(tmp_path / "groups/pod/container", cpu__max="50000 100000\n")
    assert host.usable_cores(tmp_path / "groups", own) == 1


def test_quotas_of_version_1_are_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    own = tmp_path / "own"
    own.write_text("7:memory:/docker/1\n4:cpu,cpuacct:/docker/1\n")
    group(tmp_path / "groups/cpu,cpuacct", cpu__cfs_quota_us="-1\n", cpu__cfs_period_us="100000\n")
    assert host.usable_cores(tmp_path / "groups", own) == 8
    group(tmp_path / "groups/cpu,cpuacct/docker/1", cpu__cfs_quota_us="200000\n", cpu__cfs_period_us="100000\n")
    assert host.usable_cores(tmp_path / "groups", own) == 2


def test_cores_are_counted_where_affinity_is_unknown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")  # as on macOS
    assert host.usable_cores(tmp_path, tmp_path / "own") == os.cpu_count()


@pytest.mark.parametrize(
    ("running", "variables", "spins"),
    [
        (1, {}, "20000"),
        (2, {}, "0"),
        (9, {"RANK": "1"}, "20000"),
        (9, {"GOMP_SPINCOUNT": "7"}, "7"),
        (9, {"OMP_WAIT_POLICY": "active"}, None),
        (None, {}, "20000"),
    ],
)
def test_threads_spin_only_where_cores_are_free(
    running: int | None, variables: dict[str, str], spins: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RANK", "GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.setenv(name, "")  # restored after the test, whatever is set in it
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(host, "usable_cores", lambda: os.cpu_count())
    if running is not None:
        (tmp_path / "stat").write_text(f"cpu 1 2 3\nprocs_running {running}\nprocs_blocked 0\n")
    host.limit_spinning(tmp_path / "stat")
    assert os.environ.get("GOMP_SPINCOUNT") == spins


def test_a_tool_sets_the_spinning_before_torch_is_there(tmp_path: Path) -> None:
    """libgomp prints the value that it works with."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("GOMP", "OMP", "RANK"))}
    code = "from common import cli; import torch"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**variables, "OMP_DISPLAY_ENV": "verbose", "PYTHONPATH": "tools"},
        cwd=Path(__file__).resolve().parents[3],
        capture_output=True,
        text=True,
        check=True,
    )
    assert re.search(r"GOMP_SPINCOUNT = '(20000|0)'", done.stderr), done.stderr
