"""The arguments of the functions as the words that the commands read, and what the functions return."""

import json
from pathlib import Path

import pytest

from moco_transfer import results, stages
from pretrain.config import config_io
from tests.support.transfer.synthetic_runs import make_result, make_run
from transfer.run import arguments


def test_arguments_are_read_back_as_they_were_given(tmp_path: Path) -> None:
    (tmp_path / "a b.yaml").touch()
    flags = {"--config-file": tmp_path / "a b.yaml", "--init": "random", "--labels": None, "--download": False,
             "--auto-resume": True, "--train": ["one", Path("two")], "--test": "three", "--num-gpus": 2}  # fmt: skip
    settings = {"SOLVER.BASE_LR": -0.1, "DATASETS.TRAIN": ("a", "b"), "MODEL.WEIGHTS": Path("x.pth")}
    read = arguments.parser().parse_intermixed_args([*stages._flags(flags), *stages._pairs(settings)])
    assert (read.init, read.train, read.test, read.num_gpus) == ("random", ["one", "two"], ["three"], 2)
    assert (read.labels, read.download, read.auto_resume) == (None, False, True)
    assert read.overrides == ["SOLVER.BASE_LR", "-0.1", "DATASETS.TRAIN", "('a', 'b')", "MODEL.WEIGHTS", "x.pth"]


def test_settings_of_every_type_reach_pretraining(tmp_path: Path) -> None:
    settings = {
        "data.root": tmp_path,
        "optim.lr": 1e-3,
        "optim.epochs": 3,
        "deterministic": False,
        "data.crop_scale": (0.1, 0.4),
        "model.arch": "resnet18",
    }
    config = config_io.load(None, stages._pairs(settings))
    assert (config.data.root, config.optim.lr, config.optim.epochs) == (str(tmp_path), 1e-3, 3)
    assert (config.deterministic, config.data.crop_scale, config.model.arch) == (False, (0.1, 0.4), "resnet18")


def test_a_pretraining_is_read_from_its_folder(tmp_path: Path) -> None:
    rows = [{"step": 1, "loss": 2.5}, {"step": 1, "knn_top1": 0.25}, {"step": 2, "loss": 1.5}]
    (tmp_path / "metrics.json").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (tmp_path / "last_checkpoint").write_text("checkpoint_0001.pth.tar\n")
    (tmp_path / "checkpoint_0001.pth.tar.json").write_text(json.dumps({"sha256": "ab", "epoch": 2}))
    found = results.read_pretraining(tmp_path)
    assert (found.checkpoint, found.sha256, found.epochs) == (tmp_path / "checkpoint_0001.pth.tar", "ab", 2)
    assert (found.metrics, found.knn_top1, list(found.history)) == (rows[2], 0.25, rows)


@pytest.fixture
def tuned(tmp_path: Path) -> results.FineTuning:
    for seed, ap in enumerate((20.0, 30.0)):
        make_run(tmp_path / f"trial_{seed}", make_result("coco", "MoCo", seed, ap))
    return results.read_fine_tuning(tmp_path, 2)


def test_trials_are_read_in_their_order(tuned: results.FineTuning) -> None:
    assert tuned.points() == (20.0, 30.0)
    assert tuned.points("AP50", "segm") == pytest.approx((34.0, 51.0))
    assert tuned.points("APs") == (None, None)
    assert (tuned.init, tuned.init_sha256, tuned.engine) == ("MoCo", "cd" * 32, "torchvision")
    assert [trial.seed for trial in tuned.trials] == [0, 1]
    assert tuned.trials[1].weights == tuned.folder / "trial_1" / "model_final.pth"
    assert tuned.trials[0].result["iterations"] == 100


def test_a_metric_that_is_not_there_is_named(tuned: results.FineTuning) -> None:
    with pytest.raises(KeyError, match=r"keypoints AP is not in .*trial_0/result\.json, which has bbox AP, bbox AP50"):
        tuned.points("AP", "keypoints")
