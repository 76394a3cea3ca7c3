"""FCN-16s as recorded of the real Detectron2: features, logits, classes and losses; three steps of both engines."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.parity.test_training_steps import check
from tests.parity.test_vectors import check_summary
from tests.support.transfer import semantic_models, small_models, training_steps
from tests.support.transfer.semantic_models import DILATED, FCN, MODELS, TASKS
from transfer.engines import torchvision as engine
from transfer.engines.common.semantic_output import semantic_loss, upsampled
from transfer.engines.torchvision.build import build_model, build_optimizer

VECTORS = ("fcn16s_r50_voc", "fcn16s_r50_cityscapes")
SLOW = {"fcn16_r50"}
STEPS = [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in MODELS]


@pytest.mark.parametrize("name", VECTORS)
def test_features_logits_and_losses_are_recorded_ones(name: str) -> None:
    weights = semantic_models.reference()
    recorded = semantic_models.recorded(name)
    cfg = engine.load_config(TASKS / "tensors" / f"{name}.config.yaml", [])
    model = semantic_models.load_reference(build_model(cfg), name)
    for (height, width), seed, wanted in zip(
        recorded["images"], recorded["image_seeds"], recorded["outputs"], strict=True
    ):
        image = torch.from_numpy(weights.image(height, width, seed)).permute(2, 0, 1)
        with torch.no_grad():
            batch, _ = model.batch([image])
            check_summary(batch[0], wanted["input"])
            check_summary(model.backbone(batch)["res5"], wanted["res5"])
            logits = model.logits(batch)
        check_summary(logits, wanted["logits"])
        pixels, aligned = upsampled(logits, (height, width)), wanted["align_corners_True"]
        check_summary(pixels, aligned["upsampled"])
        assert torch.equal(model.segment(image), pixels[0])
        counts = torch.bincount(pixels.argmax(dim=1).flatten(), minlength=cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES)
        assert (counts - torch.tensor(aligned["argmax_counts"])).abs().max() <= 1  # of pixels on an edge
        loss = semantic_loss(logits, made_labels(height, width, cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES)[None], 255)
        assert loss.item() == pytest.approx(aligned["loss"], abs=1e-5)


def made_labels(height: int, width: int, classes: int) -> Tensor:
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    labels = (3 * x // 16 + 5 * y // 16) % classes
    labels[(x + y) % 7 == 0] = 255
    return labels


def tensors(name: str) -> list[dict[str, Any]]:
    semantic_models.reference()  # skips where there is none
    return json.loads((TASKS / "tensors" / f"{name}.json").read_text())["tensors"]


@pytest.mark.parametrize("name", VECTORS)
def test_semantic_tensors_have_recorded_names_and_shapes(name: str) -> None:
    rows = tensors(name)
    cfg = engine.load_config(TASKS / "tensors" / f"{name}.config.yaml", [])
    with torch.device("meta"):
        state = build_model(cfg).state_dict(keep_vars=True)
    assert {key: tuple(value.shape) for key, value in state.items()} == {
        row["name"]: tuple(row["shape"]) for row in rows if row["persistent"]
    }
    trained = {key for key, value in state.items() if value.requires_grad}
    assert trained == {row["name"] for row in rows if row["requires_grad"]}


def test_every_block_of_res5_is_dilated() -> None:
    """torchvision's own dilation leaves the first block at 1: the same weights, another network."""
    with torch.device("meta"):
        model = build_model(engine.load_config(None, semantic_models.overrides(FCN, DILATED)))
    found = [(block.conv2.dilation, block.conv2.padding, block.conv2.stride) for block in model.backbone.layer4]
    assert found == [((2, 2), (2, 2), (1, 1))] * 3


@pytest.mark.parametrize("name", STEPS)
def test_three_semantic_steps_are_detectron2s(name: str, tmp_path: Path) -> None:
    model = build_model(small_models.config(*MODELS[name])).double()
    batch = semantic_models.examples(tmp_path, *MODELS[name])
    cfg = small_models.config(*MODELS[name])
    ours = training_steps.train(model, build_optimizer(cfg, model), batch)
    check(ours, training_steps.recorded(name))


@pytest.mark.detectron2
@pytest.mark.parametrize("name", STEPS)
def test_both_engines_train_semantic_models_alike(name: str, tmp_path: Path) -> None:
    pytest.importorskip("transfer.engines.detectron2", reason="Detectron2 is not installed", exc_type=ImportError)
    from detectron2.solver import build_optimizer as their_optimizer
    from detectron2.utils.events import EventStorage

    from tests.support.transfer import detectron2_models

    batch = semantic_models.examples(tmp_path, *MODELS[name])
    model, cfg = build_model(small_models.config(*MODELS[name])), small_models.config(*MODELS[name])
    theirs = detectron2_models.build(*MODELS[name])
    assert {k: v.shape for k, v in model.state_dict().items()} == {k: v.shape for k, v in theirs.state_dict().items()}
    ours = training_steps.train(model, build_optimizer(cfg, model), batch)
    with EventStorage(0):
        optimizer = their_optimizer(detectron2_models.config(*MODELS[name]), theirs)
        check(ours, training_steps.train(theirs, optimizer, semantic_models.detectron2_inputs(batch)))
    for key, value in theirs.state_dict().items():  # statistics of the norms, too
        torch.testing.assert_close(model.state_dict()[key], value, rtol=1e-3, atol=1e-5)


@pytest.mark.detectron2
def test_the_same_file_gives_both_engines_one_label_map(tmp_path: Path) -> None:
    theirs = pytest.importorskip(
        "transfer.engines.detectron2", reason="Detectron2 is not installed", exc_type=ImportError
    )
    records = semantic_models.records(tmp_path, 2)
    model = build_model(small_models.config(FCN))
    state = small_models.lively(model.state_dict())
    torch.save({"model": state}, tmp_path / "model.pth")
    maps = [
        one.load_predictor(one.load_config(None, semantic_models.overrides(FCN)), tmp_path / "model.pth", logits=True)(
            records
        )
        for one in (engine, theirs)
    ]
    for record, ours, other in zip(records, *maps, strict=True):
        assert ours.classes.shape == (record["height"], record["width"])
        assert len(ours.classes.unique()) > 1
        torch.testing.assert_close(ours.logits, other.logits, rtol=0, atol=1e-5)
        assert torch.equal(ours.classes, other.classes)
