"""A run as a whole: its folder, its checkpoints, going on where it stopped, one process and two."""

import dataclasses
import json
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from pretrain import checkpoint, config, data, distributed, plan, train
from pretrain.config import ConfigError
from pretrain.errors import PretrainError

STEPS = 2  # an epoch: 9 images in batches of 4, the tail dropped


def settings(pictures: pathlib.Path, folder: pathlib.Path, *overrides: str) -> config.Config:
    """The smallest run: ResNet-18, 32 pixels, batches of 4, two epochs."""
    small = "model.arch resnet18 model.queue_size 10 model.bn_groups 2 model.dim 8 data.image_size 32 data.workers 0"
    short = "optim.batch_size 4 optim.epochs 2 device cpu log_period 1"
    return config.load(
        None, ["data.root", str(pictures), "output_dir", str(folder), *small.split(), *short.split(), *overrides]
    )


def metrics(folder: pathlib.Path) -> list[dict[str, Any]]:
    """The lines of metrics.json without what depends on the clock."""
    rows = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    return [{key: row[key] for key in ("epoch", "step", "loss", "contrast_accuracy", "lr")} for row in rows]


def assert_equal_content(a: Any, b: Any, where: str = "checkpoint") -> None:
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            if key not in ("output_dir", "data.workers", "checkpoint_period"):
                assert_equal_content(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, list):
        assert len(a) == len(b), where
        for index, (left, right) in enumerate(zip(a, b, strict=True)):
            assert_equal_content(left, right, f"{where}[{index}]")
    else:
        assert a == b, where


@pytest.fixture(scope="module")
def finished(pictures: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The folder of an uninterrupted run of two epochs."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    train.run(settings(pictures, folder), ["python", "tools/train_moco.py", "data.root", "a b"])
    return folder


def test_a_run_leaves_what_it_was_and_what_it_did(finished: pathlib.Path, pictures: pathlib.Path) -> None:
    assert {path.name for path in finished.iterdir()} == {
        "config.yaml",
        "command.txt",
        "env.json",
        "log.txt",
        "metrics.json",
        "last_checkpoint",
        "checkpoint_0000.pth.tar",
        "checkpoint_0001.pth.tar",
    }
    assert config.load(finished / "config.yaml") == settings(pictures, finished)
    assert (finished / "command.txt").read_text() == "python tools/train_moco.py data.root 'a b'\n"
    environment = json.loads((finished / "env.json").read_text())
    assert environment["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert (environment["seed"], environment["processes"]) == (0, 1)
    assert (finished / "last_checkpoint").read_text() == "checkpoint_0001.pth.tar"
    rows = metrics(finished)
    assert [(row["epoch"], row["step"]) for row in rows] == [(0, 1), (0, 2), (1, 3), (1, 4)]
    assert [row["lr"] for row in rows] == pytest.approx([0.03, 0.03, 0.015, 0.015])  # cosine, stepped by epoch
    log = (finished / "log.txt").read_text()
    assert "step 4/4" in log
    assert "images/s" in log
    assert "checkpoint_0001.pth.tar" in log


def test_the_checkpoint_has_the_published_layout(finished: pathlib.Path) -> None:
    content = checkpoint.load(finished / "checkpoint_0001.pth.tar")
    assert {"epoch", "arch", "state_dict", "optimizer"} <= content.keys()
    assert (content["epoch"], content["arch"]) == (2, "resnet18")
    state = content["state_dict"]
    assert {name.split(".")[1] for name in state} == {"encoder_q", "encoder_k", "queue", "queue_ptr"}
    assert state["module.queue"].shape == (8, 10)
    assert state["module.queue_ptr"].tolist() == [2 * STEPS * 4 % 10]
    encoder = checkpoint.load_query_encoder(finished / "checkpoint_0001.pth.tar")
    assert (encoder.arch, encoder.epoch) == ("resnet18", 2)
    # The published optimizer lists both encoders; only the query encoder's parameters have a velocity.
    parameters = [name for name in state if name.endswith((".weight", ".bias"))]
    assert len(content["optimizer"]["param_groups"][0]["params"]) == len(parameters)
    assert len(content["optimizer"]["state"]) == len(parameters) // 2


def test_a_killed_run_goes_on_bit_by_bit(
    finished: pathlib.Path, pictures: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stops in the second epoch, after a line of metrics beyond its checkpoint; it goes on with loader workers."""
    orders: list[torch.Tensor] = []
    step = train.train_step

    def stop_in_the_second_epoch(*arguments: Any) -> Any:
        orders.append(arguments[-1])
        if len(orders) == STEPS + 2:
            raise KeyboardInterrupt
        return step(*arguments)

    monkeypatch.setattr(train, "train_step", stop_in_the_second_epoch)
    with pytest.raises(KeyboardInterrupt):
        train.run(settings(pictures, tmp_path / "killed"))
    assert [order.tolist() for order in orders] == [train._permutation(0, at, 4).tolist() for at in range(STEPS + 2)]
    assert len(metrics(tmp_path / "killed")) == STEPS + 1
    assert not (tmp_path / "killed" / "checkpoint_0001.pth.tar").exists()
    with open(tmp_path / "killed" / "metrics.json", "a") as file:
        file.write('{"epoch": 1, "st')  # killed while it wrote
    monkeypatch.undo()
    torch.rand(5)  # whatever the random state of the new process is
    train.run(settings(pictures, tmp_path / "killed", "data.workers", "1"), resume=True)
    assert metrics(tmp_path / "killed") == metrics(finished)
    last = "checkpoint_0001.pth.tar"
    assert_equal_content(checkpoint.load(tmp_path / "killed" / last), checkpoint.load(finished / last))


def broken_on_rank_one() -> Iterator[str]:
    if distributed.rank() == 1:
        raise PretrainError("broken.jpg: not an image of a known format")
    yield "views"


def two_ranks(pictures: pathlib.Path, folder: pathlib.Path) -> None:
    """On each of two ranks: one rank's fault stops both; a run of two epochs; one of one epoch that goes on to two."""
    options = ("model.bn_groups", "1", "checkpoint_period", "2")
    with pytest.raises(PretrainError, match=r"broken.jpg"):
        list(data.batches(broken_on_rank_one()))  # type: ignore[arg-type]
    models = []
    build = train.build
    train.build = lambda *arguments: models.append(build(*arguments)) or models[-1]  # type: ignore[func-returns-value]
    train.run(settings(pictures, folder / "whole", *options))
    train.run(settings(pictures, folder / "parts", *options, "optim.epochs", "1"))
    train.run(settings(pictures, folder / "parts", *options), resume=True)
    for model in models:
        for name, buffer in model.named_buffers():
            assert (distributed.all_gather(buffer[None]) == buffer).all(), f"{name} drifted apart between the ranks"


def test_two_processes_go_on_bit_by_bit_and_are_one_process_of_two_groups(
    finished: pathlib.Path, pictures: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    distributed.launch(two_ranks, 2, pictures, tmp_path)
    assert metrics(tmp_path / "parts") == metrics(tmp_path / "whole")
    last = "checkpoint_0001.pth.tar"
    whole = checkpoint.load(tmp_path / "whole" / last)
    assert_equal_content(checkpoint.load(tmp_path / "parts" / last), whole)
    assert "the schedule follows the new length" in (tmp_path / "parts" / "log.txt").read_text()
    # Weights, data, order, views, shuffling and BN groups are those of one process. (Later steps drift apart: BN over
    # two values of one pixel blows up the last bit of float32. test_moco.py compares 20 steps in float64.)
    assert metrics(tmp_path / "whole")[0] == pytest.approx(metrics(finished)[0], abs=1e-5)


def test_each_step_has_a_permutation_of_its_own() -> None:
    orders = {tuple(train._permutation(seed, step, 32).tolist()) for seed in (0, 1) for step in range(10)}
    assert len(orders) == 20
    assert all(sorted(order) == list(range(32)) for order in orders)


def test_a_finished_run_resumed_changes_nothing(finished: pathlib.Path, pictures: pathlib.Path) -> None:
    before = {path.name: path.read_bytes() for path in finished.iterdir() if path.suffix == ".tar"}
    rows = metrics(finished)
    train.run(settings(pictures, finished), resume=True)
    assert {path.name: path.read_bytes() for path in finished.iterdir() if path.suffix == ".tar"} == before
    assert metrics(finished) == rows


def test_an_output_folder_with_a_run_is_refused(
    finished: pathlib.Path, pictures: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    with pytest.raises(PretrainError, match=f"output_dir: {finished}: already holds a run .*--resume"):
        train.run(settings(pictures, finished))
    (tmp_path / "file").write_text("mine")
    with pytest.raises(PretrainError, match=f"output_dir: {tmp_path}/file: is not a folder"):
        train.run(settings(pictures, tmp_path / "file"))
    (tmp_path / "metrics.json").write_text("mine")
    with pytest.raises(PretrainError, match=r"already holds a run \(metrics.json\)"):
        train.run(settings(pictures, tmp_path))
    assert (tmp_path / "metrics.json").read_text() == "mine"
    with pytest.raises(PretrainError, match=r"cannot be written: Not a directory"):
        train.run(settings(pictures, tmp_path / "file" / "below"))


def test_nothing_to_resume_is_an_error(pictures: pathlib.Path, tmp_path: pathlib.Path) -> None:
    with pytest.raises(PretrainError, match=f"{tmp_path}/none: nothing to resume"):
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
    with pytest.raises(PretrainError, match="began with 9 images, now there are 8"):
        train.run(settings(fewer, finished), resume=True)


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
def test_shuffling_that_can_do_nothing_is_off_and_said(world: int, groups: int, synced: int, on: bool) -> None:
    model = config.Model(bn_groups=groups, bn_sync_ranks=synced)
    shuffle, reason = plan._shuffle_effect(config.Config(model=model), world)
    assert shuffle is on
    assert bool(reason) is not on
    off = config.Config(model=dataclasses.replace(model, bn_shuffle=False))
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
    chosen = config.Config(
        model=config.Model(bn_groups=groups, bn_sync_ranks=synced), optim=config.Optim(batch_size=batch)
    )
    with pytest.raises(ConfigError, match=message):
        plan._check_shares(chosen, world)


def test_a_loss_that_is_not_finite_stops_the_run(pictures: pathlib.Path, tmp_path: pathlib.Path) -> None:
    with pytest.raises(PretrainError, match=r"the loss became (nan|inf) by step \d+ \(epoch \d\); a lower optim.lr"):
        train.run(settings(pictures, tmp_path / "run", "optim.lr", "1e30"))
