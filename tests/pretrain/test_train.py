"""A run as a whole: its folder, its checkpoints, resuming where it stopped, one process and two."""

import dataclasses
import functools
import itertools
import json
import os
import pathlib
import shutil
import signal
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from PIL import Image

from pretrain import plan, train, trainer
from pretrain.checkpoints import saver
from pretrain.config import config_io, schema
from pretrain.config.schema import ConfigError
from pretrain.engine.step import TrainingStep
from pretrain.evaluation.knn import KnnMonitor
from pretrain.runtime import distributed, files, host, signals, spawn
from pretrain.runtime.errors import UserError
from tests.support.pretrain.narrow import full_resnet18, narrow_resnet18
from tests.support.pretrain.trainings import (
    LAST,
    STEPS,
    assert_equal_content,
    assert_same_run,
    before_step,
    metrics,
    settings,
)
from tests.support.tiers import slow_but
from transfer.weights import source


@pytest.fixture(scope="module", autouse=True)
def narrow() -> Iterator[None]:
    """Runs of this module are those of a narrow network."""
    with narrow_resnet18():
        yield


@pytest.fixture(scope="module")
def finished(pictures: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The folder of an uninterrupted run of two epochs."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    assert train.run(settings(pictures, folder), ["python", "tools/train_moco.py", "data.root", "a b"])
    return folder


@pytest.fixture(scope="module")
def finished_in_threes(pictures: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The same run with a line of metrics every three steps."""
    folder = tmp_path_factory.mktemp("runs") / "finished_in_threes"
    train.run(settings(pictures, folder, "log_period", "3"))
    return folder


def test_a_run_leaves_its_settings_metrics_and_checkpoints(finished: pathlib.Path, pictures: pathlib.Path) -> None:
    found = {path.name for path in finished.iterdir() if not path.name.startswith("events.out.tfevents")}
    assert found == {
        *("config.yaml", "command.txt", "env.json", "log.txt", "metrics.json", "images", "last_checkpoint"),
        *("checkpoint_0000.pth.tar", "checkpoint_0000.pth.tar.json"),
        *("checkpoint_0001.pth.tar", "checkpoint_0001.pth.tar.json"),
    }
    assert config_io.load(finished / "config.yaml") == settings(pictures, finished)
    assert (finished / "command.txt").read_text() == "python tools/train_moco.py data.root 'a b'\n"
    environment = json.loads((finished / "env.json").read_text())
    assert environment["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert (environment["seed"], environment["processes"]) == (0, 1)
    assert environment["accelerator"]["cuda"] == torch.version.cuda
    flags = environment["arithmetic"]
    assert {flags[name] for name in ("deterministic_algorithms", "cudnn_deterministic")} == {True}
    assert {flags[name] for name in ("cudnn_benchmark", "tf32_in_convolutions", "tf32_in_matrix_products")} == {False}
    assert "arithmetic   fp32: float32; TF32 is off; deterministic algorithms\n" in (finished / "log.txt").read_text()
    assert environment["freed_memory_kept"] is host.keep_freed_memory()  # as this C library can
    assert (finished / "last_checkpoint").read_text() == "checkpoint_0001.pth.tar"
    rows = metrics(finished)
    assert [(row["epoch"], row["step"]) for row in rows] == [(0, 1), (0, 2), (1, 3), (1, 4)]
    assert [row["lr"] for row in rows] == pytest.approx([0.03, 0.03, 0.015, 0.015])  # cosine, stepped by epoch
    assert [row["queue_age"] for row in rows] == [1, 2, 3, 3]  # 10 keys of batches of 4
    for row in rows:
        assert -1 <= row["negative_similarity"] <= 1
        assert 0 < row["feature_std"] <= 1
        assert row["gradient_norm"] > 0
        assert row["broken_images"] == 0
    log = (finished / "log.txt").read_text()
    assert "step 4/4" in log
    assert "images/s" in log
    assert "checkpoint_0001.pth.tar" in log


def test_the_checkpoint_has_the_published_layout(pictures: pathlib.Path, tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "run"
    with full_resnet18():
        train.run(settings(pictures, folder))
    content = files.load_tensors(folder / "checkpoint_0001.pth.tar")
    assert {"epoch", "arch", "state_dict", "optimizer"} <= content.keys()
    assert (content["epoch"], content["arch"]) == (2, "resnet18")
    state = content["state_dict"]
    assert {name.split(".")[1] for name in state} == {"encoder_q", "encoder_k", "queue", "queue_ptr"}
    assert state["module.queue"].shape == (8, 10)
    assert state["module.queue_ptr"].tolist() == [2 * STEPS * 4 % 10]
    encoder = source.read_pretrained(folder / "checkpoint_0001.pth.tar")
    assert (encoder.architecture.name, encoder.epoch, encoder.kind) == ("resnet18", 2, "moco_transfer")
    # The published optimizer lists both encoders; only the query encoder's parameters have a velocity.
    parameters = [name for name in state if name.endswith((".weight", ".bias"))]
    assert len(content["optimizer"]["param_groups"][0]["params"]) == len(parameters)
    assert len(content["optimizer"]["state"]) == len(parameters) // 2


@pytest.mark.parametrize("at", slow_but([3], [1, 2, 3, 4]))
def test_a_killed_run_resumes_bit_by_bit(
    at: int, finished: pathlib.Path, pictures: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in any step, after lines of metrics beyond its checkpoint; it resumes with loader workers."""
    folder = tmp_path / "killed"

    def kill() -> None:
        raise KeyboardInterrupt

    before_step(monkeypatch, at, kill)
    with pytest.raises(KeyboardInterrupt):
        train.run(settings(pictures, folder, "checkpoint_steps", "3"))
    monkeypatch.undo()
    if at == 2:
        shutil.rmtree(folder)  # no checkpoint yet
        train.run(settings(pictures, folder))
    elif at > 2:
        with open(folder / "metrics.json", "a") as file:
            file.write('{"epoch": 1, "step": 4, "loss": 1.0}\n{"epoch": 1, "st')  # killed while it wrote
        torch.rand(5)  # whatever the random state of the new process is
        train.run(settings(pictures, folder, "data.workers", "1"), resume=True)
    if at > 1:
        assert_same_run(folder, finished)


@pytest.mark.parametrize("number", signals.STOPPING)
def test_a_signal_stops_between_two_steps_and_nothing_is_lost(
    number: signal.Signals,
    finished: pathlib.Path,
    finished_in_threes: pathlib.Path,
    pictures: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, at = tmp_path / "stopped", 1 + signals.STOPPING.index(number) % 3
    before = [signal.getsignal(each) for each in signals.STOPPING]
    before_step(monkeypatch, at, lambda: os.kill(os.getpid(), number))
    assert train.run(settings(pictures, folder, "log_period", "3")) is False
    monkeypatch.undo()
    assert [signal.getsignal(each) for each in signals.STOPPING] == before
    assert saver.manifests(folder)[-1].step == at
    assert f"stopped by {number.name} after step {at} of 4, saved" in (folder / "log.txt").read_text()
    assert train.run(settings(pictures, folder, "log_period", "3"), resume=True) is True
    assert metrics(folder) == metrics(finished_in_threes)  # lines are means over steps on both sides of the stop
    assert_equal_content(
        files.load_tensors(folder / LAST)["state_dict"], files.load_tensors(finished / LAST)["state_dict"]
    )


def test_a_signal_before_the_first_step_leaves_a_start_to_resume(
    finished: pathlib.Path, pictures: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = trainer.build_model

    def signalled(*given: Any, **named: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return build(*given, **named)

    monkeypatch.setattr(trainer, "build_model", signalled)
    assert train.run(settings(pictures, tmp_path / "run")) is False
    monkeypatch.undo()
    assert saver.manifests(tmp_path / "run")[-1].step == 0
    assert train.run(settings(pictures, tmp_path / "run"), resume=True)
    assert_same_run(tmp_path / "run", finished)


def test_another_kind_of_machine_is_noticed_at_a_resume(
    finished: pathlib.Path, pictures: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    folder = tmp_path / "moved"
    shutil.copytree(finished, folder)
    train.run(settings(pictures, folder), resume=True)
    assert "another kind of machine" not in (folder / "log.txt").read_text()
    environment = json.loads((folder / "env.json").read_text())
    here = environment["machine"]["processor"]
    assert f" machine      {here}\n" in (folder / "log.txt").read_text()
    environment["machine"] = {"processor": "a VAX", "gpu": None}
    (folder / "env.json").write_text(json.dumps(environment))
    train.run(settings(pictures, folder), resume=True)
    log = (folder / "log.txt").read_text()
    assert log.count(f"another kind of machine than before (processor a VAX, now {here})") == 1
    assert json.loads((folder / "env.json").read_text())["machine"]["processor"] == here
    del environment["machine"]  # as versions up to 0.2 wrote it
    (folder / "env.json").write_text(json.dumps(environment))
    train.run(settings(pictures, folder), resume=True)
    assert (folder / "log.txt").read_text().count("another kind of machine") == 1


def test_a_damaged_checkpoint_is_passed_over_by_name(
    finished: pathlib.Path, pictures: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    folder = tmp_path / "damaged"
    train.run(settings(pictures, folder))
    content = bytearray((folder / LAST).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / LAST).write_bytes(content)
    train.run(settings(pictures, folder), resume=True)
    assert f"--resume passes over {LAST} is damaged" in (folder / "log.txt").read_text()
    assert_same_run(folder, finished)


@pytest.mark.parametrize(
    ("steps", "log_period", "checkpoint_steps"), [(2, 3, 0), (2, 2, 0), (2, 3, 2), (4, 10, 0)], ids=str
)
def test_a_late_found_nan_step_is_named_and_leaves_nothing(
    steps: int,
    log_period: int,
    checkpoint_steps: int,
    pictures: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on a GPU: in the next step, or before a line of metrics, a checkpoint, the end of an epoch."""
    folder = tmp_path / "run"
    models = []
    build = trainer.build_model
    monkeypatch.setattr(
        trainer, "build_model", lambda *given, **named: models.append(build(*given, **named)) or models[-1]
    )
    monkeypatch.setattr(trainer, "TrainingStep", functools.partial(TrainingStep, delay=1))
    before_step(monkeypatch, steps, lambda: models[0].encoder_q.fc[2].bias.data.fill_(torch.nan))
    periods = f"log_period {log_period} checkpoint_steps {checkpoint_steps} optim.batch_size 2 model.bn_groups 1"
    with pytest.raises(
        UserError, match=rf"^step {steps} \(epoch 0\): the loss on rank 0 is nan. Nothing of this step was"
    ):
        train.run(settings(pictures, folder, *periods.split()))  # 4 steps an epoch
    assert (folder / "metrics.json").read_text() == ""
    assert not [*folder.glob("checkpoint_*")]


@narrow_resnet18()
def on_rank(config: schema.Config, resume: bool) -> bool:
    return train.run(config, resume=resume)


@narrow_resnet18()
def two_ranks(pictures: pathlib.Path, folder: pathlib.Path) -> None:
    """On each of two ranks: a run of two epochs; one in which only rank 1 is asked to stop, and which is resumed."""
    options = ("model.bn_groups", "1", "checkpoint_period", "2")
    models = []
    build = trainer.build_model
    trainer.build_model = lambda *a, **k: models.append(build(*a, **k)) or models[-1]  # type: ignore[func-returns-value]
    train.run(settings(pictures, folder / "whole", *options))
    with pytest.MonkeyPatch.context() as patch:
        if distributed.rank() == 1:
            before_step(patch, 3, lambda: os.kill(os.getpid(), signal.SIGUSR2))
        assert train.run(settings(pictures, folder / "parts", *options)) is False
    assert train.run(settings(pictures, folder / "parts", *options), resume=True) is True
    for model in models:
        for name, buffer in model.named_buffers():
            assert (distributed.all_gather(buffer[None]) == buffer).all(), f"{name} drifted apart between the ranks"


@pytest.mark.slow
def test_two_processes_resume_bit_by_bit(
    finished: pathlib.Path, pictures: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    spawn.run_on_ranks(two_ranks, 2, pictures, tmp_path)
    assert_same_run(tmp_path / "parts", tmp_path / "whole")
    assert "stopped by SIGUSR2 after step 3 of 4" in (tmp_path / "parts" / "log.txt").read_text()
    # Weights, data, order, views, shuffling and BN groups are those of one process. (Later steps drift apart: BN over
    # two values of one pixel blows up the last bit of float32. test_moco.py compares 20 steps in float64.)
    two, one = metrics(tmp_path / "whole")[0], metrics(finished)[0]
    for key in ("loss", "contrast_accuracy", "lr", "positive_similarity", "negative_similarity"):
        assert two[key] == pytest.approx(one[key], rel=1e-5), key
    assert two["gradient_norm"] == pytest.approx(one["gradient_norm"], rel=3e-4)  # as ill-conditioned as later steps


def test_another_number_of_processes_resumes_with_a_notice(
    finished: pathlib.Path, pictures: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    before_step(monkeypatch, 1, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert train.run(settings(pictures, folder)) is False
    monkeypatch.undo()
    begun = files.load_tensors(folder / saver.manifests(folder)[-1].file)["state_dict"]
    assert spawn.run_on_ranks(on_rank, 2, settings(pictures, folder, "model.bn_groups", "1"), True) is True
    log = (folder / "log.txt").read_text()
    assert "the run had 1 processes and has 2 now, model.bn_groups was 2 and is 1 now: it continues with" in log
    assert "not bit by bit" in log
    assert [row["step"] for row in metrics(folder)] == [1, 2, 3, 4]
    ended = files.load_tensors(folder / LAST)["state_dict"]
    assert ended["module.queue_ptr"].tolist() == [STEPS * 2 * 4 % 10]
    # Two processes of one BN group each are one of two groups: they compute what it would have, but for rounding.
    assert metrics(folder)[1]["loss"] == pytest.approx(metrics(finished)[1]["loss"], rel=0.05)
    assert not torch.equal(ended["module.queue"], begun["module.queue"])


def test_a_finished_run_resumed_changes_nothing(finished: pathlib.Path, pictures: pathlib.Path) -> None:
    before = {path.name: path.read_bytes() for path in finished.iterdir() if path.suffix == ".tar"}
    rows = metrics(finished)
    train.run(settings(pictures, finished), resume=True)
    assert {path.name: path.read_bytes() for path in finished.iterdir() if path.suffix == ".tar"} == before
    assert metrics(finished) == rows


def test_an_output_folder_with_a_run_is_refused(
    finished: pathlib.Path, pictures: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    with pytest.raises(UserError, match=f"output_dir: {finished}: already holds a run .*--resume"):
        train.run(settings(pictures, finished))
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match=f"output_dir: {tmp_path}/file: is not a folder"):
        train.run(settings(pictures, tmp_path / "file"))
    (tmp_path / "metrics.json").write_text("mine")
    with pytest.raises(UserError, match=r"already holds a run \(metrics.json\)"):
        train.run(settings(pictures, tmp_path))
    assert (tmp_path / "metrics.json").read_text() == "mine"
    for among in (pictures, pictures / "run"):
        with pytest.raises(UserError, match=rf"output_dir: {among}: lies in the folder of images {pictures} "):
            train.run(settings(pictures, among))
    assert not (pictures / "run").exists()
    with pytest.raises(UserError, match="output_dir: is empty"):
        settings(pictures, tmp_path, "output_dir", "")
    with pytest.raises(UserError, match=r"cannot be written: Not a directory"):
        train.run(settings(pictures, tmp_path / "file" / "below"))


def test_one_command_begins_begins_anew_and_resumes(
    finished: pathlib.Path, pictures: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a cluster starts it again and again: killed before its first checkpoint, then after it, then left alone."""

    class Killed(BaseException):
        pass

    def kill() -> None:
        raise Killed

    folder = tmp_path / "run"
    before_step(monkeypatch, 2, kill)
    with pytest.raises(Killed):
        train.run(settings(pictures, folder), resume=None)
    monkeypatch.undo()
    assert [row["step"] for row in metrics(folder)] == [1]
    assert not saver.has_checkpoint(folder)
    before_step(monkeypatch, 3, kill)
    with pytest.raises(Killed):
        train.run(settings(pictures, folder), resume=None)
    monkeypatch.undo()
    assert [manifest.step for manifest in saver.manifests(folder)] == [2]
    train.run(settings(pictures, folder), resume=None)
    assert "resumed at step 0 of epoch 1" in (folder / "log.txt").read_text()
    assert_same_run(folder, finished)


def digests(folder: pathlib.Path) -> dict[str, str]:
    return {path.name: files.file_sha256(path) for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize("resume", [True, None])
def test_checkpoints_without_manifests_are_resumed(
    resume: bool | None, finished: pathlib.Path, pictures: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """Of a finished run, copied without them."""
    folder = tmp_path / "run"
    shutil.copytree(finished, folder, ignore=shutil.ignore_patterns("*.tar.json"))
    before = {name: digest for name, digest in digests(folder).items() if name.startswith("checkpoint_")}
    train.run(settings(pictures, folder), resume=resume)
    assert before.items() <= digests(folder).items()
    assert f"--resume takes {LAST}, which has no manifest" in (folder / "log.txt").read_text()
    assert saver.manifests(folder) == saver.manifests(finished)[-1:]  # it has one now
    assert_same_run(folder, finished)


@pytest.mark.parametrize("damage", ["foreign", "cut short", "a bit"])
def test_nothing_is_begun_over_a_checkpoint_that_is_not_good(
    damage: str, finished: pathlib.Path, pictures: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    path = folder / "checkpoint_0000.pth.tar"
    content = bytearray((finished / path.name).read_bytes())
    if damage == "foreign":
        files.save_tensors(path, {"epoch": 1, "arch": "resnet50", "state_dict": {}, "optimizer": {}})
    else:
        content[len(content) // 2] ^= 1
        path.write_bytes(content[:-1000] if damage == "cut short" else content)
    before = digests(folder)
    for resume in (True, None):
        with pytest.raises(UserError, match=f"no checkpoint is good: {path.name} .*choose another output_dir"):
            train.run(settings(pictures, folder), resume=resume)
        assert digests(folder) == before


def test_nothing_is_begun_over_another_run(
    finished: pathlib.Path, pictures: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """Killed before its first checkpoint, with another seed; or the folder of another tool."""
    folder = tmp_path / "run"
    shutil.copytree(finished, folder, ignore=shutil.ignore_patterns("checkpoint_*"))
    before = digests(folder)
    with pytest.raises(UserError, match=r"holds another run \(config.yaml, .* differs in seed. Nothing is overwritten"):
        train.run(settings(pictures, folder, "seed", "5"), resume=None)
    (folder / "config.yaml").write_text("MODEL: {META_ARCHITECTURE: GeneralizedRCNN}\n")
    with pytest.raises(UserError, match=r"config.yaml is none of pretraining"):
        train.run(settings(pictures, folder), resume=None)
    assert digests(folder) | {"config.yaml": ""} == before | {"config.yaml": ""}


def test_checkpoint_steps_are_counted_across_epochs(pictures: pathlib.Path, tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "run"
    train.run(settings(pictures, folder, "checkpoint_steps", "2", "checkpoint_period", "9", "optim.epochs", "3"))
    assert [manifest.step for manifest in saver.manifests(folder)] == [2, 4, 6]  # an epoch has two steps


def test_nothing_to_resume_is_an_error(pictures: pathlib.Path, tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match=f"{tmp_path}/none: nothing to resume"):
        train.run(settings(pictures, tmp_path / "none"), resume=True)
    assert not (tmp_path / "none").exists()


def test_a_resumed_run_keeps_its_settings(
    finished: pathlib.Path, pictures: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        train.run(settings(pictures, finished, "optim.lr", "0.5", "model.dim", "9", "seed", "1"), resume=True)
    assert [fault.split(": ")[0] for fault in caught.value.faults] == ["model.dim", "optim.lr", "seed"]
    with pytest.raises(ConfigError, match=r"optim.epochs: the run has 2 epochs already, 1 are asked for"):
        train.run(settings(pictures, finished, "optim.epochs", "1"), resume=True)
    fewer = tmp_path / "fewer"
    shutil.copytree(pictures, fewer)
    next(fewer.iterdir()).unlink()
    with pytest.raises(UserError, match="began with 9 images, now there are 8"):
        train.run(settings(fewer, finished), resume=True)


def test_a_setting_that_was_added_later_counts_as_its_default(
    finished: pathlib.Path, pictures: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """The run is one of an older version, which did not have it; and had one that is gone."""
    folder = tmp_path / "older"
    folder.mkdir()
    content = files.load_tensors(finished / "checkpoint_0000.pth.tar")
    del content["moco_transfer"]["config"]["optim.clip_norm"]
    content["moco_transfer"]["config"]["optim.forgotten"] = 5
    saver.write_checkpoint(folder / "checkpoint_0000.pth.tar", content, 1, 2)
    shutil.copy(finished / "metrics.json", folder)
    with pytest.raises(ConfigError, match=r"optim.clip_norm: the run began with 0.0, now it is 1.0"):
        train.run(settings(pictures, folder, "optim.clip_norm", "1"), resume=True)
    train.run(settings(pictures, folder), resume=True)
    assert_same_run(folder, finished)
    log = (folder / "log.txt").read_text()
    assert "did not have these settings; they count as their defaults: optim.clip_norm 0.0" in log
    assert "settings which this one does not know: optim.forgotten 5" in log


def test_a_resumed_run_does_not_keep_the_checkpoint_in_memory(
    finished: pathlib.Path, pictures: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each rank maps the file, so that a node has it once, and lets go of it before the first step."""
    folder = tmp_path / "run"
    shutil.copytree(finished, folder, ignore=shutil.ignore_patterns("checkpoint_0001*"))
    mapped = []
    before_step(monkeypatch, 1, lambda: mapped.append("checkpoint_0000" in pathlib.Path("/proc/self/maps").read_text()))
    restore = trainer.Trainer._restore

    def watched(*arguments: Any) -> None:
        mapped.append("checkpoint_0000" in pathlib.Path("/proc/self/maps").read_text())
        restore(*arguments)

    monkeypatch.setattr(trainer.Trainer, "_restore", watched)
    train.run(settings(pictures, folder), resume=True)
    assert mapped == [True, False]
    assert_same_run(folder, finished)


def test_a_dry_run_prints_and_writes_nothing(
    pictures: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train.run(settings(pictures, tmp_path / "run"), dry_run=True)
    printed = capsys.readouterr().out
    assert "queue_size: 10" in printed
    assert "2 epochs of 2 steps of 4 images, 1 images left out" in printed
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("world", "groups", "synced", "on"),
    [(1, 1, 1, False), (1, 2, 1, True), (2, 1, 1, True), (2, 1, 0, False), (4, 1, 2, True)],
)
def test_shuffling_without_effect_is_off_with_a_notice(world: int, groups: int, synced: int, on: bool) -> None:
    model = schema.Model(bn_groups=groups, bn_sync_ranks=synced)
    shuffle, reason = plan._shuffle_effect(schema.Config(model=model), world)
    assert shuffle is on
    assert bool(reason) is not on
    off = schema.Config(model=dataclasses.replace(model, bn_shuffle=False))
    assert plan._shuffle_effect(off, world) == (False, [])


@pytest.mark.parametrize(
    ("batch", "groups", "synced", "world", "message"),
    [
        (6, 2, 1, 2, "optim.batch_size: 6 cannot be split evenly among 2 processes with 2 BN groups each"),
        (4, 2, 1, 2, "optim.batch_size: 4 leaves a BN group of one image"),
        (8, 1, 3, 4, "model.bn_sync_ranks: 4 processes cannot be split into groups of 3"),
    ],
)
def test_uneven_shares_are_refused(batch: int, groups: int, synced: int, world: int, message: str) -> None:
    chosen = schema.Config(
        model=schema.Model(bn_groups=groups, bn_sync_ranks=synced), optim=schema.Optim(batch_size=batch)
    )
    with pytest.raises(ConfigError, match=message):
        plan._check_shares(chosen, world)


def test_a_loss_that_is_not_finite_stops_the_run(pictures: pathlib.Path, tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(UserError, match=r"step \d \(epoch \d\): .* on rank 0 is .*last good checkpoint is intact"):
        train.run(settings(pictures, folder, "optim.lr", "1e30", "checkpoint_steps", "1"))
    good, passed_over = saver.newest_good(folder)
    assert passed_over == []
    state = files.load_tensors(good)["state_dict"]
    assert all(tensor.isfinite().all() for name, tensor in state.items() if "running" not in name)


@pytest.fixture
def with_a_broken_one(pictures: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    folder = tmp_path / "pictures"
    shutil.copytree(pictures, folder)
    (folder / "3.png").write_bytes((folder / "3.png").read_bytes()[:300])
    return folder


def test_a_broken_image_is_replaced_counted_and_named_once(
    with_a_broken_one: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """Also over a resume: the checkpoint knows it."""
    train.run(settings(with_a_broken_one, tmp_path / "run", "data.max_broken", "0.2", "optim.epochs", "3"))
    train.run(settings(with_a_broken_one, tmp_path / "run", "data.max_broken", "0.2", "optim.epochs", "5"), resume=True)
    assert metrics(tmp_path / "run")[-1]["broken_images"] == 1
    assert (tmp_path / "run" / "log.txt").read_text().count("3.png") == 1


def test_too_many_broken_images_stop_the_run(with_a_broken_one: pathlib.Path, tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match=r"data.max_broken.*mend them or raise data.max_broken \(a run that has begun "):
        train.run(settings(with_a_broken_one, tmp_path / "run", "optim.epochs", "3"))


def test_tensorboard_has_the_numbers_of_metrics_json(finished: pathlib.Path) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason="no tensorboard")
    board = events.EventAccumulator(str(finished)).Reload()
    rows = [json.loads(line) for line in (finished / "metrics.json").read_text().splitlines()]
    assert set(board.Tags()["scalars"]) == set(rows[0]) - {"epoch", "step", "steps"}
    for key in ("loss", "feature_std", "queue_age"):
        assert [(event.step, event.value) for event in board.Scalars(key)] == [
            (row["step"], pytest.approx(row[key], rel=1e-6)) for row in rows
        ]


@pytest.fixture(scope="module")
def validated(pictures: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A finished run in `run`, validated on `classes` after each epoch."""
    folder = tmp_path_factory.mktemp("validated")
    for number, path in enumerate(sorted(pictures.iterdir())):
        (folder / "classes" / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        Image.open(path).save(folder / "classes" / "ab"[number % 2] / path.name)
    train.run(settings(pictures, folder / "run", "knn.root", str(folder / "classes"), "knn.k", "3"))
    return folder


def test_knn_is_measured_and_changes_nothing(finished: pathlib.Path, validated: pathlib.Path) -> None:
    measured = [row for row in metrics(validated / "run") if "knn_top1" in row]
    assert [row["step"] for row in measured] == [2, 4]
    assert all(0 <= row["knn_top1"] <= row["knn_top5"] <= 1 for row in measured)
    assert [row for row in metrics(validated / "run") if "loss" in row] == metrics(finished)
    assert_equal_content(
        files.load_tensors(validated / "run" / LAST)["state_dict"], files.load_tensors(finished / LAST)["state_dict"]
    )


@pytest.mark.parametrize("epoch", [0, 1])
def test_a_signal_in_a_validation_is_obeyed_and_nothing_is_lost(
    epoch: int, validated: pathlib.Path, pictures: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The validation is done when the run is resumed, and written down once."""
    folder, done = tmp_path / "run", STEPS * (epoch + 1)
    words = settings(pictures, folder, "knn.root", str(validated / "classes"), "knn.k", "3")
    evaluate, calls = KnnMonitor.evaluate, itertools.count()

    def signalled(*arguments: Any) -> dict[str, Any]:
        if next(calls) == epoch:
            os.kill(os.getpid(), signal.SIGUSR2)
        return evaluate(*arguments)

    monkeypatch.setattr(KnnMonitor, "evaluate", signalled)
    assert train.run(words) is False
    monkeypatch.undo()
    assert f"stopped by SIGUSR2 after step {done} of 4, saved" in (folder / "log.txt").read_text()
    assert saver.manifests(folder)[-1].file == f"checkpoint_{epoch:04d}.pth.tar"  # saved before it was validated
    assert train.run(words, resume=True) is True
    assert_same_run(folder, validated / "run")


def test_a_missing_validation_folder_stops_before_any_write(pictures: pathlib.Path, tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match=r"knn.root: .*nowhere"):
        train.run(settings(pictures, tmp_path / "run", "knn.root", str(tmp_path / "nowhere")))
    assert not (tmp_path / "run").exists()


def test_half_precision_on_a_cpu_gets_a_notice(
    pictures: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = ["data.root", str(pictures), "output_dir", str(tmp_path / "run"), "optim.precision", "fp16"]
    train.run(config_io.load(None, [*overrides, "optim.batch_size", "4", "device", "cpu"]), dry_run=True)
    assert "\nwarning: optim.precision: fp16 on a CPU takes about 15 times as long" in capsys.readouterr().out
