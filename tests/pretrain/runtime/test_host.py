"""The home folder stands for ~, configurations are found by name, freed memory stays with the process.

Linux and macOS are supported, and Windows is refused in one sentence. There is no Mac here: its gaps are imitated.
"""

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pretrain.runtime import host
from pretrain.runtime.errors import UserError
from tests.conftest import ROOT

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
MACOS = """
import multiprocessing, pathlib, sys
sys.path[:0] = [".", "tools"]
from tests.support import without_linux
without_linux.become_macos()
print(len(without_linux.import_all(pathlib.Path("."))))
"""
WORK = """
multiprocessing.set_start_method("spawn")  # that of macOS; Python 3.14 no longer forks on Linux either
from pretrain.runtime import host
from transfer.data.shared import loader_workers, packed_records
host.keep_freed_memory()
records = packed_records.PackedRecords.of({"image_id": number} for number in range(3))
with loader_workers.load_ahead(records, without_linux.image_id, workers=1) as loaded:
    print(host.usable_cores() > 0, list(loaded))
"""
WINDOWS = """
import sys
sys.path[:0] = [".", "tools"]
for name in ("fcntl", "resource"):
    sys.modules[name] = None
sys.platform = "win32"
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


def test_a_private_folder_is_shared_unless_its_name_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = host.private_folder()
    assert folder == host.private_folder()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    folder.chmod(0o770)  # others may write, so they may have made it
    assert host.private_folder() not in (folder, host.private_folder())
    folder.rmdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    folder.symlink_to(elsewhere)
    assert host.private_folder() not in (folder, elsewhere)
    folder.unlink()
    folder.touch(mode=0o600)
    assert host.private_folder().is_dir()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_a_private_folder_is_none_of_another_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = host.private_folder()
    os.chown(folder, 12345, 12345)
    assert host.private_folder() != folder


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
    in_a_clone = "configs/transfer/voc_r50_c4_24k.yaml"
    assert host.config_path(in_a_clone, "transfer") == host.CONFIGS / "transfer" / "voc_r50_c4_24k.yaml"
    assert host.config_path("ablations/queue_256", "pretrain").is_file()
    assert host.config_path("configs/transfer/mine.yaml", "transfer") == Path("configs/transfer/mine.yaml")
    (tmp_path / "voc_r50_c4_24k.yaml").touch()
    assert host.config_path("voc_r50_c4_24k.yaml", "transfer") == Path("voc_r50_c4_24k.yaml"), "a file here comes first"
    assert host.config_path("my/voc.yaml", "transfer") == Path("my/voc.yaml")


def test_a_misspelt_config_is_told_the_names_near_it() -> None:
    message = r"voc_r50_c4_24: there is no such file and no such configuration of transfer; near it: voc_r50_c4_24k"
    with pytest.raises(UserError, match=message):
        host.config_path("voc_r50_c4_24", "transfer")


def test_a_tilde_of_no_user_is_refused_unless_it_is_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"~nobody-here/x: ~nobody-here is the home folder of no user here"):
        host.expand_home("~nobody-here/x")
    (tmp_path / "~backup.txt").touch()
    assert host.expand_home("~backup.txt") == "~backup.txt"


def python(*lines: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", "".join(lines)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)


def test_without_what_only_linux_has_all_imports_and_loads() -> None:
    done = python(MACOS, WORK)
    assert done.returncode == 0, done.stderr
    modules, worked = done.stdout.splitlines()
    assert int(modules) > 250
    assert worked == "True [0, 1, 2]"


@pytest.mark.parametrize("module", ["pretrain.runtime.files", "pretrain.runtime.run_folder", "transfer.errors"])
def test_the_library_refuses_windows_in_one_sentence(module: str) -> None:
    done = python(WINDOWS, f"import {module}")
    assert done.stderr.splitlines()[-1].startswith("ImportError: moco-transfer runs on Linux and macOS and does not")


def test_a_tool_refuses_windows_in_one_sentence() -> None:
    done = python(WINDOWS, "import train_moco")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "does not support Windows" in done.stderr
