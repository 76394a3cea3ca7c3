"""The torture would see what it looks for. It runs itself in .ci/run, after these tests."""

import json
import os
import pathlib
import shutil
import subprocess

import pytest
import torch

import torture
from fault_injection.campaign import LAYOUTS, Totals, can_mount, unmount
from fault_injection.job import EPOCHS, Job, Setup, differences
from pretrain.checkpoints import moco_file
from pretrain.runtime import files
from tests.support.in_process import refusal


def test_a_folder_that_is_there_is_refused(tmp_path: pathlib.Path) -> None:
    assert f"{tmp_path}: already exists" in refusal(torture.main, "--output", tmp_path)


def test_one_bit_or_one_number_is_a_difference(tmp_path: pathlib.Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    content = {"state_dict": {"queue": torch.tensor([1.0, -0.0])}, "optimizer": [{"lr": 0.1}], "epoch": EPOCHS}
    name = moco_file.file_name(EPOCHS - 1)
    files.save_tensors(one / name, content)
    rows = [{"step": 1, "loss": 2.5, "images_per_second": 3}, {"step": 2, "loss": 2.25, "images_per_second": 4}]
    (one / "metrics.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    shutil.copytree(one, other)
    assert differences(one, other) == []
    rows[1] |= {"images_per_second": 5}
    (other / "metrics.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert differences(one, other) == []
    rows[1] |= {"loss": 2.2500000000000004}
    (other / "metrics.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    content["state_dict"]["queue"][1] = 0.0  # equal to -0, and another bit  # type: ignore[index]
    content["optimizer"][0]["lr"] = 0.2  # type: ignore[index]
    files.save_tensors(other / name, content)
    assert sorted(differences(one, other)) == [".optimizer.0.lr", ".state_dict.queue", "metrics.json"]


def test_an_interrupted_torture_ends_its_runs(pictures: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """Their process groups are their own, so a Ctrl-C of the terminal does not reach them."""
    with Job(Setup(2, 1, pictures), tmp_path / "run") as job:
        assert job.running()
    assert not job.running()
    for rank in job.ranks:
        with pytest.raises(ProcessLookupError):
            os.killpg(rank.pid, 0)


def test_a_small_disk_in_use_is_taken_away(tmp_path: pathlib.Path) -> None:
    if not can_mount(tmp_path):
        pytest.skip("a small disk cannot be mounted here")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", tmp_path], check=True)
    with open(tmp_path / "in use", "w"):
        unmount(tmp_path)
    assert not os.path.ismount(tmp_path)


def test_the_layouts_share_all_disturbances() -> None:
    totals = Totals(kills=20, signals=4, bit_flips=2, full_disks=0)
    shares = [totals.share(number, len(LAYOUTS)) for number in range(len(LAYOUTS))]
    assert [share.kills for share in shares] == [7, 7, 6]
    assert [share.bit_flips for share in shares] == [1, 1, 0]
    assert Totals(*map(sum, zip(*(vars(share).values() for share in shares), strict=True))) == totals
    assert not Totals(0, 0, 0, 0)
