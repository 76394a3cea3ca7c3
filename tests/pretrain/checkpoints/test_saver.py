"""Checkpoints on disk: what is kept, what is taken for good, what a full disk leaves."""

import hashlib
import json
import os
import pathlib
import subprocess

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pretrain.checkpoints import moco_file, saver
from pretrain.runtime import files
from pretrain.runtime.errors import PretrainError


def content(step: int) -> dict[str, object]:
    return {"epoch": 0, "moco_transfer": {"step": step}, "weights": torch.arange(1000.0) + step}


def written(folder: pathlib.Path, *steps: int) -> list[pathlib.Path]:
    paths = [folder / moco_file.file_name(0, step) for step in steps]
    for path, step in zip(paths, steps, strict=True):
        saver.write_checkpoint(path, content(step), 0, step)
    return paths


def turn_bit(path: pathlib.Path, bit: int) -> None:
    damaged = bytearray(path.read_bytes())
    damaged[bit // 8] ^= 1 << bit % 8
    path.write_bytes(damaged)


def names(folder: pathlib.Path) -> set[str]:
    return {path.name for path in folder.glob("checkpoint_*.tar")}


def test_the_manifest_says_what_the_bytes_are(tmp_path: pathlib.Path) -> None:
    (path,) = written(tmp_path, 7)
    manifest = json.loads((tmp_path / f"{path.name}.json").read_text())
    assert manifest["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (manifest["bytes"], manifest["step"], manifest["file"]) == (path.stat().st_size, 7, path.name)
    assert torch.equal(files.load_tensors(path)["weights"], content(7)["weights"])


@given(bit=st.integers(0, 8 * 4000))
def test_any_bit_that_turns_over_is_noticed(tmp_path_factory: pytest.TempPathFactory, bit: int) -> None:
    folder = tmp_path_factory.mktemp("run")
    older, newer = written(folder, 1, 2)
    turn_bit(newer, bit)
    found, passed_over = saver.newest_good(folder)
    assert found == older
    assert passed_over == [f"{newer.name} is damaged: its SHA-256 is not that of its manifest"]


def test_the_newest_good_one_is_found_past_all_that_are_not(tmp_path: pathlib.Path) -> None:
    paths = written(tmp_path, 1, 2, 3, 4, 5)
    saver.manifest_path(paths[4]).unlink()  # killed between the two files
    assert saver.newest_good(tmp_path) == (paths[4], [])  # the file's own checksums are right
    turn_bit(paths[4], 8 * 2000)
    paths[3].write_bytes(paths[3].read_bytes()[:-1])
    paths[2].unlink()
    saver.manifest_path(paths[1]).write_text("{")
    turn_bit(paths[1], 8 * 2000)
    found, passed_over = saver.newest_good(tmp_path)
    assert found == paths[0]
    log = "\n".join(passed_over)
    assert f"{paths[4].name} has no manifest, and is damaged" in log
    assert f"{paths[1].name} has no manifest, and is damaged" in log
    assert f"{paths[3].name} has {paths[3].stat().st_size} bytes, its manifest says" in log
    assert f"{paths[2].name} cannot be read: No such file" in log
    paths[0].unlink()
    with pytest.raises(PretrainError, match=f"{tmp_path}: nothing to resume, no checkpoint is good: .*{paths[0].name}"):
        saver.newest_good(tmp_path)


def test_nothing_to_resume_is_said(tmp_path: pathlib.Path) -> None:
    with pytest.raises(PretrainError, match=f"{tmp_path}: nothing to resume, it holds no checkpoint"):
        saver.newest_good(tmp_path)


def test_the_last_few_and_milestones_stay(tmp_path: pathlib.Path) -> None:
    keeper = saver.Saver(tmp_path, keep=2)
    for step in range(1, 8):
        keeper.save(moco_file.file_name(0, step), content(step), 0, step, milestone=step in (1, 4))
    keeper.close()
    assert keeper.fault is None
    assert names(tmp_path) == {moco_file.file_name(0, step) for step in (1, 4, 6, 7)}
    assert (tmp_path / files.LAST).read_text() == moco_file.file_name(0, 7)
    assert len(list(tmp_path.glob("*.json"))) == 4


def test_a_damaged_newer_one_does_not_push_good_ones_out(tmp_path: pathlib.Path) -> None:
    """After damage at step 9 the run resumes from step 6, so its next checkpoints are older than the damaged one."""
    *_, damaged = written(tmp_path, 3, 6, 9)
    turn_bit(damaged, 999)
    keeper = saver.Saver(tmp_path, keep=2)
    keeper.save(moco_file.file_name(0, 7), content(7), 0, 7)
    keeper.close()
    assert saver.newest_good(tmp_path)[0].name == moco_file.file_name(0, 7)
    turn_bit(tmp_path / moco_file.file_name(0, 7), 999)
    assert saver.newest_good(tmp_path)[0].name == moco_file.file_name(0, 6)


def test_a_file_that_was_there_is_kept(tmp_path: pathlib.Path) -> None:
    """Damaged, so that the run resumed from before it and comes to its name again; or somebody else's."""
    (path,) = written(tmp_path, 7)
    for number in (1, 2):
        path.write_text(f"mine {number}")
        written(tmp_path, 7)
        assert saver.newest_good(tmp_path) == (path, [])
        assert (tmp_path / f"kept_{number}_{path.name}").read_text() == f"mine {number}"


def test_what_is_written_is_what_it_was_when_it_was_saved(tmp_path: pathlib.Path) -> None:
    weights = torch.zeros(1_000_000)
    keeper = saver.Saver(tmp_path, keep=2)
    keeper.save("checkpoint_0000.pth.tar", {"nested": [{"weights": weights}], "text": "a"}, 1, 1)
    weights += 1  # training continues
    keeper.close()
    loaded = files.load_tensors(tmp_path / "checkpoint_0000.pth.tar")
    assert (loaded["nested"][0]["weights"] == 0).all()


def test_a_full_disk_leaves_the_last_checkpoint_and_a_message(tmp_path: pathlib.Path) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        keeper = saver.Saver(tmp_path, keep=2)
        keeper.save("checkpoint_0000.pth.tar", {"weights": torch.rand(5_000)}, 1, 1)
        keeper.wait()
        assert keeper.fault is None
        keeper.save("checkpoint_0001.pth.tar", {"weights": torch.rand(20_000)}, 2, 2)
        keeper.close()
        assert f"{tmp_path}/checkpoint_0001.pth.tar: cannot be written: " in str(keeper.fault)
        assert saver.newest_good(tmp_path) == (tmp_path / "checkpoint_0000.pth.tar", [])
        assert not list(tmp_path.glob(".*"))
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_what_a_kill_left_half_written_is_cleared_away(tmp_path: pathlib.Path) -> None:
    (tmp_path / ".checkpoint_0003.pth.tar.tmp").write_bytes(b"half")
    saver.Saver(tmp_path, keep=2).close()
    assert not list(tmp_path.iterdir())
