"""tools/linear_probe.py as a user runs it: both protocols, one process and torchrun, what it refuses."""

import hashlib
import json
import math
import os
import pathlib
import shutil
import subprocess
import sys
from typing import Any

import pytest
import torch

import linear_probe
from common.linear_evaluation import Options, doubts, evaluate_backbone
from pretrain.checkpoints import saver
from pretrain.evaluation import probe_features
from pretrain.runtime import files, run_folder
from pretrain.runtime.errors import PretrainError, UserError
from pretrain.runtime.signals import EXIT_CODE
from tests.conftest import ROOT, Tool
from tests.support import checkpoints
from tests.support.in_process import refusal
from tests.support.pretrain.coloured_images import paint
from tests.support.transfer.stopping import StopAt
from tests.support.waiting import wait_until

SMALL = ("--image-size", "32", "--epochs", "2", "--batch-size", "8", "--workers", "0", "--lr", "0.5")
SMALL += ("--milestones", "1", "--device", "cpu")


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """CHECKPOINT --root DIR."""
    folder = tmp_path_factory.mktemp("probe")
    paint(folder / "images" / "train", 4)
    paint(folder / "images" / "val", 3, seed=1)
    path = checkpoints.write(folder / "moco.pth.tar")
    return str(path), "--root", str(folder / "images")


def test_the_result_says_what_it_is(tool: Tool, given: tuple[str, ...], tmp_path: pathlib.Path) -> None:
    done = tool("linear_probe", *given, "--output", tmp_path / "out", *SMALL)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "out" / "linear_probe.json").read_text())
    assert result["protocol"] == "published"
    assert result["departures"] == [
        "lr 0.5 instead of 30.0",
        "epochs 2 instead of 100",
        "milestones [1] instead of [60, 80]",
        "batch_size 8 instead of 256",
        "image_size 32 instead of 224",
    ]
    assert result["checkpoint_sha256"] == hashlib.sha256(pathlib.Path(given[0]).read_bytes()).hexdigest()
    assert (result["arch"], result["pretrain_epochs"], result["classes"]) == ("resnet18", 3, 3)
    assert result["images"] == {"train": 12, "val": 9}
    assert result["settings"]["seed"] == 0
    assert [row["epoch"] for row in result["epochs"]] == [0, 1]
    assert [row["lr"] for row in result["epochs"]] == pytest.approx([0.5, 0.05])
    assert (result["top1"], result["top5"]) == (result["epochs"][-1]["top1"], 1.0)
    log = (tmp_path / "out" / "log.txt").read_text()
    for line in ("protocol: published", "not as published: lr 0.5 instead of 30.0", "epoch 1/1", "top-5 100.00%"):
        assert line in log
        assert line in done.stderr

    again = refusal(linear_probe.main, *given, "--output", tmp_path / "out", *SMALL)
    assert f"--output: {tmp_path / 'out'}: already holds linear_probe.json" in again


def test_a_rate_that_is_too_high_is_said(
    given: tuple[str, ...], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert doubts(math.log(3), 3) == []
    options = ("--output", str(tmp_path / "out"), "--fast", *SMALL, "--lr", "1e6", "--milestones")
    monkeypatch.setattr(sys, "argv", ["linear_probe.py", *given, *options])
    linear_probe.main()
    result = json.loads((tmp_path / "out" / "linear_probe.json").read_text())
    (warning,) = result["warnings"]
    assert result["epochs"][-1]["loss"] > 2
    assert "guessing among 3 classes has 1.10: the rate was too high" in warning
    assert f"warning: {warning}" in (tmp_path / "out" / "log.txt").read_text()


@pytest.mark.slow
def test_fast_under_torchrun_agrees_with_one_process(
    tool: Tool, given: tuple[str, ...], tmp_path: pathlib.Path
) -> None:
    alone = tool("linear_probe", *given, "--output", tmp_path / "alone", "--fast", *SMALL)
    assert "protocol: fast (cached centre-crop features)" in alone.stderr
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    together = subprocess.run(
        [*torchrun, "tools/linear_probe.py", *given, "--output", str(tmp_path / "together"), "--fast", *SMALL],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert together.returncode == 0, together.stderr
    assert together.stderr.count("epoch 1/1") == 1  # one rank talks
    one, other = (json.loads((tmp_path / name / "linear_probe.json").read_text()) for name in ("alone", "together"))
    assert one["protocol"] == other["protocol"] == "fast (cached centre-crop features)"
    assert other["environment"]["processes"] == 2
    for row, same in zip(one["epochs"], other["epochs"], strict=True):
        assert row == pytest.approx(same, rel=1e-3)


def test_faults_are_named(given: tuple[str, ...], tmp_path: pathlib.Path) -> None:
    def said(*arguments: object) -> str:
        return refusal(linear_probe.main, *arguments, "--output", tmp_path / "out", "--device", "cpu")

    root = pathlib.Path(given[2]) / "train"
    assert (
        f"--root: {root}: has no folder train and no folder val; it must hold {root}/train/CLASS/IMAGES and "
        f"{root}/val/CLASS/IMAGES" in said(given[0], "--root", root)
    )
    ranges = said(*given, "--lr", "nan", "--epochs", "0", "--workers", "-1", "--milestones", "3", "-4")
    for fault in ("--lr: nan must be at least", "--epochs: 0 must", "--workers: -1 must", "--milestones: -4 must"):
        assert fault in ranges
    (tmp_path / "notes.pth").write_text("no checkpoint")
    assert "notes.pth: it is text" in said(tmp_path / "notes.pth", *given[1:])
    assert not (tmp_path / "out").exists()


CPU = torch.device("cpu")


def options(given: tuple[str, ...], output: pathlib.Path, **changes: Any) -> Options:
    values: dict[str, Any] = {"checkpoint": pathlib.Path(given[0]), "encoder": None, "prefix": None, "root": given[2]}
    values |= {"output": output, "fast": False, "lr": 0.5, "epochs": 2, "milestones": [1], "batch_size": 5}
    values |= {"image_size": 32, "workers": 0, "device": "cpu", "seed": 0}
    return Options(**{**values, **changes})


def evaluate(given: tuple[str, ...], output: pathlib.Path, look: int = 1000, **changes: Any) -> bool:
    """Evaluate in this process; a signal comes before the `look`-th time that one is looked for."""
    return evaluate_backbone(options(given, output, **changes), CPU, StopAt(look))


def result(folder: pathlib.Path) -> dict[str, Any]:
    return json.loads((folder / "linear_probe.json").read_text())


def layer(folder: pathlib.Path) -> dict[str, torch.Tensor]:
    return files.load_tensors(folder / "checkpoint_0001.pth.tar")["state_dict"]


@pytest.fixture(scope="module")
def whole(given: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The folder of a probe that was left alone: two epochs of three steps."""
    folder = tmp_path_factory.mktemp("whole") / "out"
    assert evaluate(given, folder)
    return folder


@pytest.mark.parametrize("look", [1, 2, 3, 4, 6])
def test_a_stopped_probe_resumes_bit_by_bit(
    look: int, whole: pathlib.Path, given: tuple[str, ...], tmp_path: pathlib.Path
) -> None:
    folder = tmp_path / "out"
    assert not evaluate(given, folder, look)
    assert not (folder / "linear_probe.json").exists()
    assert "stopped by SIGUSR1" in (folder / "log.txt").read_text()
    assert evaluate(given, folder, auto_resume=True)
    assert result(folder)["epochs"] == result(whole)["epochs"]
    assert layer(folder).keys() == {"fc.weight", "fc.bias"}
    assert all(torch.equal(tensor, layer(whole)[name]) for name, tensor in layer(folder).items())


def test_the_layer_is_saved_with_a_manifest(whole: pathlib.Path) -> None:
    assert result(whole)["layer"] == "checkpoint_0001.pth.tar"
    path, skipped = saver.newest_good(whole)
    assert (path.name, skipped) == ("checkpoint_0001.pth.tar", [])
    (manifest,) = [each for each in saver.manifests(whole) if each.file == path.name]
    assert (manifest.epoch, manifest.step, manifest.milestone) == (2, 6, True)


def test_a_finished_probe_is_left_as_it_is(
    whole: pathlib.Path, given: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.name: path.read_bytes() for path in whole.iterdir()}
    for flag in ("resume", "auto_resume"):
        assert evaluate(given, whole, **{flag: True})
        assert "the probe is finished already" in capsys.readouterr().out
    with pytest.raises(PretrainError, match=r"already holds linear_probe\.json"):
        evaluate(given, whole)
    with pytest.raises(PretrainError, match=r"lr: the probe began with 0\.5, now it is 0\.25"):
        evaluate(given, whole, lr=0.25, auto_resume=True)
    assert {path.name: path.read_bytes() for path in whole.iterdir()} == before


def test_another_probe_is_not_resumed(given: tuple[str, ...], tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "out"
    assert not evaluate(given, folder, 4)
    paint(tmp_path / "images" / "train", 5)
    paint(tmp_path / "images" / "val", 3, seed=1)
    with pytest.raises(PretrainError, match="seed: the probe began with 0, now it is 1"):
        evaluate(given, folder, resume=True, seed=1)
    with pytest.raises(PretrainError, match="train: the probe began with"):
        evaluate(given, folder, resume=True, root=str(tmp_path / "images"))
    with pytest.raises(PretrainError, match=r"already holds log\.txt, last_checkpoint, checkpoint_0000_step_"):
        evaluate(given, folder)
    with pytest.raises(PretrainError, match="nothing to resume"):
        evaluate(given, tmp_path / "empty", resume=True)
    assert not (tmp_path / "empty").exists()


def test_a_folder_of_pretraining_is_left_alone(given: tuple[str, ...], tmp_path: pathlib.Path) -> None:
    (tmp_path / "config.yaml").write_text("mine")
    for auto_resume in (False, True):
        with pytest.raises(PretrainError, match=r"already holds config\.yaml"):
            evaluate(given, tmp_path, auto_resume=auto_resume)
    state = {"epoch": 1, "moco_transfer": {"step": 3, "config": {}}}
    saver.write_checkpoint(tmp_path / "checkpoint_0000.pth.tar", state, 1, 3)
    with pytest.raises(PretrainError, match="is a checkpoint of pretraining, not of a linear probe"):
        evaluate(given, tmp_path, resume=True)


def test_broken_images_are_left_out_by_name_or_refused(
    given: tuple[str, ...], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paint(tmp_path / "images" / "train", 4)
    paint(tmp_path / "images" / "val", 3, seed=1)
    val, train = (sorted((tmp_path / "images" / part).glob("*/*"))[0] for part in ("val", "train"))
    val.write_text("no image")
    root = str(tmp_path / "images")
    with pytest.raises(PretrainError, match=r"1 of the 9 images of val cannot be read.*Put good copies"):
        evaluate(given, tmp_path / "a", root=root)
    monkeypatch.setattr(probe_features, "MAX_BROKEN", 0.2)
    train.write_text("no image")
    for fast in (False, True):
        folder = tmp_path / f"fast {fast}"
        assert evaluate(given, folder, root=root, fast=fast)
        assert result(folder)["departures"][-2:] == [
            "1 images of val cannot be read, left out",
            "1 images of train cannot be read, left out",
        ]


def test_an_image_that_breaks_while_training_loses_no_step(
    whole: pathlib.Path, given: tuple[str, ...], tmp_path: pathlib.Path
) -> None:
    root, folder = tmp_path / "images", tmp_path / "out"
    shutil.copytree(given[2], root)
    assert not evaluate(given, folder, 5, root=str(root))  # after the first epoch
    image = sorted((root / "train").glob("*/*"))[0]
    good = image.read_bytes()
    image.write_text("no image")
    with pytest.raises(PretrainError, match="1 of the 12 images of train cannot be read"):
        evaluate(given, folder, root=str(root), auto_resume=True)
    image.write_bytes(good)
    assert evaluate(given, folder, root=str(root), auto_resume=True)
    assert result(folder)["epochs"] == result(whole)["epochs"]
    assert result(folder)["departures"] == result(whole)["departures"]


def test_two_probes_do_not_share_a_folder(
    given: tuple[str, ...], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_folder, "PATIENCE", 0.5)
    program = (
        "import pathlib, sys, time\nfrom pretrain.runtime import run_folder\n"
        "with run_folder.locked(pathlib.Path(sys.argv[1])):\n    print(flush=True)\n    time.sleep(100)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "out")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as holder:
        assert holder.stdout
        holder.stdout.readline()
        with pytest.raises(UserError, match="another start is using it"):
            evaluate(given, tmp_path / "out")
        holder.kill()


@pytest.mark.slow
def test_a_signal_ends_with_its_code_and_nothing_is_lost(
    tool: Tool, given: tuple[str, ...], tmp_path: pathlib.Path
) -> None:
    words = [*given, "--output", str(tmp_path / "out"), *SMALL, "--epochs", "400", "--workers", "1", "--auto-resume"]
    process = subprocess.Popen(
        [sys.executable, "tools/linear_probe.py", *words],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: (tmp_path / "out" / "checkpoint_0002.pth.tar.json").exists(), "three epochs")
    process.terminate()
    said = process.communicate(timeout=600)[1]
    assert process.returncode == EXIT_CODE, said
    assert said.count("stopped by SIGTERM") == 1
    saved, _ = saver.newest_good(tmp_path / "out")
    assert files.load_tensors(saved)["moco_transfer"]["step"] >= 6
