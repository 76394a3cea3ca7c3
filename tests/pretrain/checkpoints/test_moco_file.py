"""Files that are whole or absent, loaded without running what they carry; the query encoder taken out or refused."""

import os
import pathlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision

from pretrain.checkpoints import moco_file as checkpoint
from pretrain.runtime import files
from pretrain.runtime.errors import UserError


def moco_file(path: pathlib.Path, arch: str = "resnet18", prefix: str = "module.encoder_q.") -> pathlib.Path:
    encoder = torchvision.models.get_model(arch, num_classes=8).state_dict()
    state = {prefix + name: tensor for name, tensor in encoder.items()}
    files.save_tensors(path, {"epoch": 3, "arch": arch, "state_dict": state})
    return path


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "checkpoint.pth"
    files.save_tensors(path, {"epoch": 1})
    with pytest.raises(AttributeError, match="pickle"):
        files.save_tensors(path, {"epoch": lambda: 2})  # fails when the file is already open
    assert files.load_tensors(path) == {"epoch": 1}
    assert os.listdir(tmp_path) == ["checkpoint.pth"]


def test_a_disk_that_does_not_take_it_is_a_message(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "gone" / "checkpoint.pth"
    with pytest.raises(UserError, match=f"{path}: cannot be written: .*No such file"):
        files.save_tensors(path, {"epoch": 1})


def break_by_bytes(path: pathlib.Path) -> None:
    path.write_bytes(b"not a checkpoint" * 100)


def break_by_cutting(path: pathlib.Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def break_by_emptying(path: pathlib.Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [break_by_bytes, break_by_cutting, break_by_emptying, pathlib.Path.unlink])
def test_a_missing_or_damaged_file_is_named(damage: Callable[[pathlib.Path], Any], tmp_path: pathlib.Path) -> None:
    path = moco_file(tmp_path / "moco.pth.tar")
    damage(path)
    with pytest.raises(UserError, match=f"{path}: (no such checkpoint file|not a readable PyTorch checkpoint)"):
        checkpoint.load_query_encoder(path)


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (os.environ["HARM"],)


def test_code_in_a_file_is_not_run(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARM", str(tmp_path / "harm"))
    torch.save({"state_dict": Harmful()}, tmp_path / "moco.pth.tar")
    with pytest.raises(UserError, match=r"moco.pth.tar: holds an object \(posix.mkdir\)"):
        checkpoint.load_query_encoder(tmp_path / "moco.pth.tar")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(("arch", "prefix"), [("resnet18", "encoder_q."), ("resnet50", "module.encoder_q.")])
def test_the_query_encoder_comes_with_torchvisions_names(arch: str, prefix: str, tmp_path: pathlib.Path) -> None:
    found = checkpoint.load_query_encoder(moco_file(tmp_path / "moco.pth.tar", arch, prefix))
    model = torchvision.models.get_model(arch)
    missing, unexpected = model.load_state_dict(found.state_dict, strict=False)
    assert (found.arch, found.epoch, missing, unexpected) == (arch, 3, ["fc.weight", "fc.bias"], [])
    assert found.dropped == (f"{prefix}fc.weight", f"{prefix}fc.bias")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arch": "resnet34"}, "says arch 'resnet34', but its tensors are those of resnet18"),
        ({"arch": "vit"}, "says arch 'vit', but its tensors are those of resnet18"),
        ({"state_dict": 3}, "it has no 'state_dict'"),
        ({"state_dict": {"fc.weight": torch.ones(1)}}, "no 'module.encoder_q.*' (it begins with 'fc.weight')"),
        ({"state_dict": {}}, "begins with nothing"),
        ({"state_dict": {"module.encoder_q.conv1.weight": torch.ones(1)}}, "the query encoder is not a resnet18: "),
        ({"state_dict": {"module.encoder_q.conv1.weight": torch.ones(1)}, "arch": "vit"}, "arch 'vit' is none of"),
    ],
)
def test_another_kind_of_file_is_refused(change: dict[str, Any], message: str, tmp_path: pathlib.Path) -> None:
    path = moco_file(tmp_path / "moco.pth.tar")
    files.save_tensors(path, {**files.load_tensors(path), **change})
    with pytest.raises(UserError) as caught:
        checkpoint.load_query_encoder(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)


def test_faults_of_the_tensors_are_listed(tmp_path: pathlib.Path) -> None:
    path = moco_file(tmp_path / "moco.pth.tar")
    content = files.load_tensors(path)
    state = content["state_dict"]
    del state["module.encoder_q.bn1.weight"]
    state["module.encoder_q.conv1.weight"] = torch.ones(64, 1, 7, 7)
    state["module.encoder_q.extra"] = torch.ones(1)
    files.save_tensors(path, content)
    with pytest.raises(UserError) as caught:
        checkpoint.load_query_encoder(path)
    wrong_shape = "conv1.weight is (64, 1, 7, 7) and should be (64, 3, 7, 7)"
    for fault in ("bn1.weight is missing", "extra is unknown", wrong_shape):
        assert fault in str(caught.value)


def test_the_newest_is_the_one_named(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match=f"{tmp_path}: nothing to resume"):
        files.newest_checkpoint(tmp_path)
    files.save_text(tmp_path / files.LAST, checkpoint.file_name(4))
    with pytest.raises(UserError, match=r"names 'checkpoint_0004.pth.tar', which is not there"):
        files.newest_checkpoint(tmp_path)
    files.save_tensors(tmp_path / "checkpoint_0004.pth.tar", {})
    assert files.newest_checkpoint(tmp_path) == tmp_path / "checkpoint_0004.pth.tar"
