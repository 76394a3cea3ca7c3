"""The start of pretraining from a file of model.weights: read, proven, recorded, and kept by a resumed run."""

import dataclasses
import os
import pathlib
import shutil
import signal
from typing import Any

import pytest
import torch
from torch import Tensor

import train_moco
from common.initial_weights import read_initial_weights
from pretrain import train, trainer
from pretrain.build import build_model
from pretrain.config import schema
from pretrain.models.initial_weights import InitialWeights
from pretrain.runtime import files
from pretrain.runtime.errors import PretrainError, UserError
from tests.support.in_process import refusal
from tests.support.pretrain.trainings import LAST, assert_same_run, settings
from tests.support.transfer.pretrained import moco, resnet, saved
from transfer.conversion import convert, equivalence
from transfer.weights.backbone_file import write_backbone
from transfer.weights.renaming import detectron2_name
from transfer.weights.source import read_pretrained

START = "checkpoint_0000_step_00000000.pth.tar"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A MoCo checkpoint in the published layout, whose file name tells nothing."""
    return saved(tmp_path_factory.mktemp("released"), moco(resnet()), "released.pth.tar")


@pytest.fixture(scope="module")
def weights(file: pathlib.Path) -> InitialWeights:
    return read_initial_weights(file)


def run_of(pictures: pathlib.Path, folder: pathlib.Path, file: pathlib.Path | str, *overrides: str) -> schema.Config:
    return settings(pictures, folder, "model.weights", str(file), *overrides)


def start_of(config: schema.Config, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The checkpoint of a run that a signal stops before its first step."""
    build = trainer.build_model

    def signalled(*arguments: Any, **options: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return build(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "build_model", signalled)
        assert not train.run(config, read_weights=read_initial_weights)
    return files.load_tensors(pathlib.Path(config.output_dir) / START)


def res5(state: dict[str, Tensor]) -> Tensor:
    """The last feature map of a backbone, by the network that is written from Detectron2's names."""
    named = {detectron2_name(name): tensor for name, tensor in state.items()}
    return equivalence.detectron2_features(named, equivalence.random_image())["res5"]


def test_the_first_steps_features_are_the_files_in_both_encoders(
    file: pathlib.Path, pictures: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = start_of(run_of(pictures, tmp_path / "run", file), monkeypatch)
    given = read_pretrained(file)
    for encoder in ("query", "key"):
        found = read_pretrained(tmp_path / "run" / START, encoder=encoder)
        torch.testing.assert_close(res5(found.state), res5(given.state), rtol=1e-5, atol=1e-5)
        assert all(torch.equal(tensor, given.state[name]) for name, tensor in found.state.items())
        assert found.method == "MoCo from MoCo"
    at_random = start_of(settings(pictures, tmp_path / "random"), monkeypatch)
    for name, tensor in at_random["state_dict"].items():
        if ".fc." in name or ".queue" in name:
            assert torch.equal(begun["state_dict"][name], tensor), name
    assert begun["moco_transfer"]["weights"]["sha256"] == files.file_sha256(file)
    assert at_random["moco_transfer"]["weights"] is None


@pytest.mark.parametrize("origin", ["torchvision", "converted .pkl", "own checkpoint"])
def test_files_of_other_origins_give_their_backbone(
    origin: str, file: pathlib.Path, pictures: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if origin == "torchvision":
        path = saved(tmp_path, resnet(), "r18.pth")
    elif origin == "converted .pkl":
        path = tmp_path / "backbone.pkl"
        write_backbone(convert.convert(file, engine="torchvision"), path)
    else:
        start_of(run_of(pictures, tmp_path / "run", file), monkeypatch)
        path = tmp_path / "run" / START
    found = read_initial_weights(path)
    model = build_model(schema.Model(arch="resnet18"), "cpu", 9, True, weights=found)
    for name, tensor in resnet().items():
        if not name.startswith("fc."):
            assert torch.equal(model.state_dict()[f"encoder_q.{name}"], tensor), name
            assert torch.equal(model.state_dict()[f"encoder_k.{name}"], tensor), name
    assert found.record["sha256"] == files.file_sha256(path)


def test_an_encoder_with_other_features_is_refused(weights: InitialWeights) -> None:
    other = dataclasses.replace(weights, features=weights.features * 1.001)
    with pytest.raises(PretrainError, match=r"model.weights: .*: the features of encoder_q differ .* by 0.001 "):
        build_model(schema.Model(arch="resnet18"), "cpu", 9, True, weights=other)


def test_a_resumed_run_takes_its_checkpoint_and_keeps_its_start(
    file: pathlib.Path, pictures: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, parts, moved = tmp_path / "whole", tmp_path / "parts", tmp_path / "moved.pth.tar"
    for folder in (whole, parts):
        assert train.run(run_of(pictures, folder, file), read_weights=read_initial_weights)
    for left in parts.glob("checkpoint_0001*"):
        left.unlink()
    shutil.copy(file, moved)
    other = saved(tmp_path, moco(resnet(seed=1)), "other.pth.tar")

    def resume(path: pathlib.Path | str, **options: Any) -> None:
        train.run(run_of(pictures, parts, path), resume=True, **options)  # the file is not read again

    kept = "a resumed run keeps its start"
    with pytest.raises(UserError, match=rf"model.weights: the run began from {file} .*other.pth.tar is .*{kept}"):
        resume(other)
    with pytest.raises(UserError, match=rf"model.weights: the run began from {file} .*, now none is given; {kept}"):
        resume("")
    resume(tmp_path / "gone.pth.tar", dry_run=True)
    said = capsys.readouterr().out
    assert "gone.pth.tar is not there any more" in said
    assert f"weights      the checkpoint's; the run began from {file} (SHA-256 {files.file_sha256(file)})" in said
    resume(moved)
    assert files.load_tensors(parts / LAST)["moco_transfer"]["weights"]["path"] == str(file)
    shutil.copy(whole / LAST, tmp_path / "whole.pth.tar")
    (parts / LAST).unlink()
    (parts / f"{LAST}.json").unlink()
    resume(file)
    assert_same_run(whole, parts)

    found = convert.convert(parts / LAST, engine="torchvision")
    assert found.metadata["label"] == "MoCo from MoCo"
    assert found.metadata["began_from"] == {"label": "MoCo", "path": str(file), "sha256": files.file_sha256(file)}
    write_backbone(found, tmp_path / "backbone.safetensors", "safetensors")
    card = (tmp_path / "backbone.md").read_text()
    assert "| trained by | MoCo from MoCo, epoch 2, 16 images seen |\n" in card
    assert f"| began from | MoCo: `released.pth.tar`, SHA-256 `{files.file_sha256(file)}` |\n" in card


def test_a_run_that_began_at_random_takes_no_file_later(
    file: pathlib.Path, pictures: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    train.run(settings(pictures, tmp_path / "run", "optim.epochs", "1"))
    with pytest.raises(UserError, match=r"model.weights: the run began with random weights, now it is '.*released"):
        train.run(run_of(pictures, tmp_path / "run", file), resume=True)


def test_a_dry_run_names_the_file_and_its_digest(
    file: pathlib.Path, pictures: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train.run(run_of(pictures, tmp_path / "run", file), dry_run=True, read_weights=read_initial_weights)
    named = f"{file} (SHA-256 {files.file_sha256(file)})"
    said = capsys.readouterr().out
    assert f"weights      the backbone of {named}, MoCo, epoch 200; the heads are random" in said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "source.pth.tar: no such file"),
        ({"epoch": 3}, "its keys begin with 'epoch'; expected a ResNet"),
        (
            moco(resnet("resnet34"), arch=None),
            "holds a resnet34, but model.arch is resnet18; set model.arch resnet34, or give",
        ),
        ({"a": resnet(), "b": resnet(seed=1)}, "with tools/convert.py, and give its output"),
    ],
    ids=["missing", "no network", "other architecture", "two networks"],
)
def test_a_file_that_cannot_be_the_start_is_one_message(
    content: Any, message: str, pictures: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    path = saved(tmp_path, content) if content else tmp_path / "source.pth.tar"
    small = ("model.arch", "resnet18", "data.image_size", "32", "optim.batch_size", "4")
    words = ("data.root", pictures, "output_dir", tmp_path / "run", "model.weights", path, *small)
    said = refusal(train_moco.main, *words)
    assert said.startswith(f"error: model.weights: {path}: ")
    assert message in said
    assert not (tmp_path / "run").exists()


def test_a_caller_without_a_reader_is_told_what_to_give(
    file: pathlib.Path, pictures: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    with pytest.raises(PretrainError, match=r"^model.weights: .*: give a function that reads it"):
        train.run(run_of(pictures, tmp_path / "run", file))
