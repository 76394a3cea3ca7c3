"""Training of semantic segmentation as a whole: what both engines read, and that they end with the same weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pretrain.runtime.signals import StopRequest
from tests.support.transfer import semantic_models, small_models
from tests.support.transfer.semantic_models import FCN
from transfer.data.common.dataset import Dataset
from transfer.data.semantic.folder import LABEL_MAPS
from transfer.engines import load_engine
from transfer.engines import torchvision as engine
from transfer.errors import TransferError
from transfer.predictions import LabelMap, Predict
from transfer.results import Scores

NAMES = ("sky", "road", "car", "tree")
SHORT = {"SOLVER.MAX_ITER": 3, "SOLVER.WEIGHT_DECAY": 0.0001, "SOLVER.CHECKPOINT_PERIOD": 2, "SEED": 5}


def data(folder: Path) -> Dataset:
    return Dataset(("made",), LABEL_MAPS, NAMES, (0, 1, 2, 3), semantic_models.records(folder, 5), ())


def train(name: str, folder: Path, *more: Mapping[str, Any], resume: bool = False) -> dict[str, Tensor]:
    """Train for three iterations from weights made of their names; returns the final ones."""
    backend = load_engine(name)
    cfg = backend.load_config(None, semantic_models.overrides(FCN, SHORT, {"OUTPUT_DIR": str(folder)}, *more))
    folder.mkdir(exist_ok=True)
    dataset = data(folder.parent / "images")
    shapes = backend.model_state(cfg)

    def evaluate(predict: Predict) -> Scores:
        (found,) = predict(dataset.records[:1])
        assert isinstance(found, LabelMap)
        assert found.logits is None
        assert found.classes.shape == (dataset.records[0]["height"], dataset.records[0]["width"])
        return Scores({"sem_seg": {"mIoU": 1.5}}, per_class={})

    scores = backend.train(cfg, dataset, small_models.lively(shapes), evaluate, resume, {})
    assert scores.metrics == {"sem_seg": {"mIoU": 1.5}}
    return torch.load(folder / "model_final.pth", weights_only=False)["model"]


def test_a_resumed_semantic_run_ends_as_the_whole_one(tmp_path: Path) -> None:
    whole = train("torchvision", tmp_path / "whole")
    train("torchvision", tmp_path / "broken")
    for name in ("model_final.pth", "model_final.pth.json"):
        (tmp_path / "broken" / name).unlink()
    (tmp_path / "broken" / "last_checkpoint").write_text("model_0000001.pth")
    resumed = train("torchvision", tmp_path / "broken", resume=True)
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())


@pytest.mark.detectron2
@pytest.mark.filterwarnings("ignore:`torch.jit.*:FutureWarning")
def test_both_engines_end_with_the_same_weights(tmp_path: Path) -> None:
    """The same crops in the same order: three iterations, from reading the files to the checkpoint."""
    pytest.importorskip("transfer.engines.detectron2", reason="Detectron2 is not installed", exc_type=ImportError)
    ours, theirs = (train(name, tmp_path / name) for name in ("torchvision", "detectron2"))
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.detectron2
def test_both_engines_read_the_same_crops(tmp_path: Path) -> None:
    pytest.importorskip("transfer.engines.detectron2", reason="Detectron2 is not installed", exc_type=ImportError)
    from transfer.engines.detectron2.data import TrainingData
    from transfer.engines.torchvision.build import build_training_input
    from transfer.engines.torchvision.data.loader import TrainingBatches

    words, dataset = semantic_models.overrides(FCN, SHORT), data(tmp_path)
    theirs = TrainingData(load_engine("detectron2").load_config(None, words), dataset, StopRequest()).batches(0, 0)
    settings = build_training_input(engine.load_config(None, words))
    ours = iter(TrainingBatches(dataset.records, settings, batch_size=2, seed=5, group=False))
    for _ in range(4):
        for one, other in zip(next(ours), next(theirs), strict=True):
            assert torch.equal(one.image, other["image"])
            assert torch.equal(one.labels, other["sem_seg"])


@pytest.mark.parametrize("name", ["torchvision", pytest.param("detectron2", marks=pytest.mark.detectron2)])
def test_settings_of_detectors_are_refused_before_training(name: str) -> None:
    if name == "detectron2":
        pytest.importorskip("transfer.engines.detectron2", reason="Detectron2 is not installed", exc_type=ImportError)
    backend = load_engine(name)
    cfg = backend.load_config(
        None, semantic_models.overrides(FCN, {"INPUT.CROP.ENABLED": False, "INPUT.MIN_SIZE_TRAIN": "(640, 800)"})
    )
    with pytest.raises(TransferError, match=r"(?s)INPUT\.CROP.*INPUT\.MIN_SIZE_TRAIN"):
        backend.check_training(cfg, 1)


def test_a_label_above_the_classes_stops_the_run_by_name(tmp_path: Path) -> None:
    with pytest.raises(TransferError, match=r"_labels\.png: the label [23]"):
        train("torchvision", tmp_path / "run", {"MODEL.SEM_SEG_HEAD.NUM_CLASSES": 2})
