"""transfer/engines/common/checkpoint_files.py: any damage is noticed, the last few stay, nobody else's file goes."""

from pathlib import Path

import pytest
import torch

from pretrain.runtime import files
from transfer.engines.common import checkpoint_files
from transfer.engines.common.checkpoint_files import FINAL, STOPPED, file_name, newest_good, write_checkpoint
from transfer.errors import TransferError


def save(folder: Path, *iterations: int) -> list[Path]:
    """Checkpoints after these numbers of iterations."""
    paths = [folder / file_name(done - 1) for done in iterations]
    for path, done in zip(paths, iterations, strict=True):
        write_checkpoint(path, {"value": torch.full((9,), done)}, done, [])
    return paths


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_the_named_checkpoint_is_taken(tmp_path: Path) -> None:
    first, second = save(tmp_path, 2, 4)
    assert newest_good(tmp_path) == (second, [])
    (tmp_path / files.LAST).write_text(first.name)  # as a user of Detectron2 goes back
    assert newest_good(tmp_path) == (first, [])


def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path: Path) -> None:
    first, second, third = save(tmp_path, 2, 4, 6)
    flip_a_bit(third)
    found, faults = newest_good(tmp_path)
    assert found == second
    assert faults == ["model_0000005.pth is damaged: its SHA-256 is not that of its manifest"]
    second.write_bytes(second.read_bytes()[:-50])
    third.unlink()
    found, (gone, short) = newest_good(tmp_path)
    assert found == first
    assert gone == "model_0000005.pth is not there"
    assert short.startswith("model_0000003.pth has ")
    flip_a_bit(first)
    with pytest.raises(TransferError, match=r"no checkpoint is good: model_0000005.pth is not there; model_0000003.*;"):
        newest_good(tmp_path)


def test_a_folder_that_lost_the_name_keeps_its_newest(tmp_path: Path) -> None:
    """last_checkpoint is lost, or was not written yet."""
    save(tmp_path, 2, 4)
    write_checkpoint(tmp_path / file_name(5), {}, 6, ["checkpoint", "test"])
    write_checkpoint(tmp_path / FINAL, {}, 6, ["test"])
    (tmp_path / files.LAST).unlink()
    assert checkpoint_files.has_checkpoint(tmp_path)
    assert newest_good(tmp_path) == (tmp_path / FINAL, [])


def test_one_without_a_manifest_is_good_if_it_can_be_read(tmp_path: Path) -> None:
    """Of an older version, or killed just before the manifest was written."""
    first, second = save(tmp_path, 2, 4)
    for path in (first, second):
        path.with_name(f"{path.name}.json").unlink()
    assert newest_good(tmp_path) == (second, [])
    second.write_bytes(second.read_bytes()[:200])
    found, (fault,) = newest_good(tmp_path)
    assert found == first
    assert "not a readable PyTorch checkpoint" in fault


def test_a_folder_without_checkpoints_has_nothing_to_resume(tmp_path: Path) -> None:
    assert not checkpoint_files.has_checkpoint(tmp_path)
    with pytest.raises(TransferError, match="nothing to resume, it holds no checkpoint"):
        newest_good(tmp_path)


def test_the_last_few_stay_and_nobody_elses_file_goes(tmp_path: Path) -> None:
    save(tmp_path, 2, 4, 6, 8, 20)
    write_checkpoint(tmp_path / FINAL, {}, 8, [])
    write_checkpoint(tmp_path / STOPPED, {}, 1, [])
    (tmp_path / file_name(0)).write_bytes(b"a user's own, without a manifest")
    (tmp_path / "model_best.pth").write_bytes(b"the same")
    (tmp_path / "model_best.pth.json").write_text('{"whose": "the user\'s"}')
    checkpoint_files.remove_old(tmp_path, keep=2, done=8)
    left = {path.name for path in tmp_path.glob("*.pth")}
    assert left == {FINAL, STOPPED, "model_best.pth", *(file_name(i) for i in (0, 5, 7, 19))}
    assert not (tmp_path / f"{file_name(1)}.json").exists()
    checkpoint_files.remove(tmp_path / "model_best.pth")
    assert (tmp_path / "model_best.pth").exists()


def test_a_weight_file_is_compared_with_its_manifest(tmp_path: Path) -> None:
    (path,) = save(tmp_path, 2)
    checkpoint_files.check_manifest(path, files.file_sha256(path))
    checkpoint_files.check_manifest(tmp_path / "of_others.pth", "ab")
    flip_a_bit(path)
    with pytest.raises(TransferError, match=r"model_0000001.pth: is damaged: .* model_0000001.pth.json beside it"):
        checkpoint_files.check_manifest(path, files.file_sha256(path))
