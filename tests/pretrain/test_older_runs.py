"""Runs and configurations of older versions: what they did not know yet is its default."""

import pathlib
from collections.abc import Iterator

import pytest
import yaml

from pretrain import train
from pretrain.checkpoints import saver
from pretrain.config import config_io
from pretrain.runtime import files
from tests.support.pretrain.narrow import narrow_resnet18
from tests.support.pretrain.trainings import assert_same_run, settings

# Settings that came after the first checkpoints which resume, of 24 November 2026.
LATER = ("optim.schedule_unit", "optim.warmup_steps", "optim.compile", "optim.cuda_graph", "model.weights")


@pytest.fixture(autouse=True)
def narrow() -> Iterator[None]:
    with narrow_resnet18():
        yield


def test_an_old_run_and_its_configuration_go_on(pictures: pathlib.Path, tmp_path: pathlib.Path) -> None:
    new, old = tmp_path / "new", tmp_path / "old"
    train.run(settings(pictures, new))
    content = files.load_tensors(new / "checkpoint_0000.pth.tar")
    state = content["moco_transfer"]
    for key in LATER:
        del state["config"][key]
    del state["weights"]  # nor was it said which weights a run began from
    old.mkdir()
    saver.write_checkpoint(old / "checkpoint_0000.pth.tar", content, 1, 2)
    (old / "metrics.json").write_bytes((new / "metrics.json").read_bytes())

    written = yaml.safe_load((new / "config.yaml").read_text())
    for section, name in (key.split(".") for key in LATER):
        del written[section][name]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(written))
    config = config_io.load(tmp_path / "config.yaml", ["output_dir", str(old)])
    assert config == settings(pictures, old)

    train.run(config, resume=True)
    assert_same_run(new, old)
    assert f"count as their defaults: {sorted(LATER)[0]} " in (old / "log.txt").read_text()
