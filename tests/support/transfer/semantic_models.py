"""Small models of semantic segmentation, images with label maps, and training steps on them in either engine."""

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from tests.conftest import ROOT
from tests.support.transfer.small_models import COMMON
from tests.support.transfer.training_steps import DECAY
from transfer.engines import torchvision as engine
from transfer.engines.common.semantic_input import SemanticExample, SemanticInput, load_example

TASKS = ROOT.parent / "shared" / "reference" / "tasks"

FCN = {
    **COMMON,
    **DECAY,
    "DATALOADER.ASPECT_RATIO_GROUPING": False,
    "INPUT.CROP.ENABLED": True,
    "INPUT.CROP.SIZE": "[65, 65]",
    "INPUT.CROP.TYPE": "absolute",
    "INPUT.MIN_SIZE_TRAIN": "(0,)",
    "MODEL.BACKBONE.NAME": "build_resnet_backbone",
    "MODEL.META_ARCHITECTURE": "SemanticSegmentor",
    "MODEL.RESNETS.DEPTH": 18,
    "MODEL.RESNETS.OUT_FEATURES": "['res5']",
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 64,
    "MODEL.SEM_SEG_HEAD.IN_FEATURES": "['res5']",
    "MODEL.SEM_SEG_HEAD.NAME": "FCN16Head",
    "MODEL.SEM_SEG_HEAD.NORM": "SyncBN",
    "MODEL.SEM_SEG_HEAD.NUM_CLASSES": 4,
}
DILATED = {"MODEL.RESNETS.DEPTH": 50, "MODEL.RESNETS.RES2_OUT_CHANNELS": 256, "MODEL.RESNETS.RES5_DILATION": 2}
MODELS: dict[str, tuple[Mapping[str, Any], ...]] = {"fcn32_r18": (FCN,), "fcn16_r50": (FCN, DILATED)}


def reference() -> ModuleType:
    """The module that makes the weights and images behind the recorded vectors; skips where it is not."""
    if not TASKS.is_dir():
        pytest.skip(f"no recordings of Detectron2: {TASKS} is not there")
    spec = importlib.util.spec_from_file_location("task_weights", TASKS / "weights.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def recorded(name: str) -> dict[str, Any]:
    """The recorded outputs of a model."""
    return json.loads((TASKS / "vectors" / f"{name}.json").read_text())


def records(folder: Path, count: int = 4, classes: int = 4, size: tuple[int, int] = (60, 90)) -> list[dict[str, Any]]:
    """`count` noisy images with a bar of each class, of its own colour, their label maps, and their records."""
    folder.mkdir(parents=True, exist_ok=True)
    made, rng = [], np.random.default_rng(0)
    colours = rng.integers(0, 256, (classes, 3))
    for index in range(count):
        height, width = size if index % 2 else size[::-1]
        labels = (np.arange(width) * classes // width + index) % classes
        labels = np.broadcast_to(labels, (height, width)).astype(np.uint8)
        image = np.clip(colours[labels] + rng.integers(-20, 20, (height, width, 3)), 0, 255).astype(np.uint8)
        labels = labels.copy()
        labels[: height // 8] = 255
        Image.fromarray(image).save(folder / f"{index}.png")
        Image.fromarray(labels).save(folder / f"{index}_labels.png")
        made.append(
            {
                "file_name": str(folder / f"{index}.png"),
                "sem_seg_file_name": str(folder / f"{index}_labels.png"),
                "image_id": str(index),
                "height": height,
                "width": width,
            }
        )
    return made


def examples(folder: Path, *settings: Mapping[str, Any]) -> list[SemanticExample]:
    """A batch of two crops."""
    cfg = engine.load_config(None, overrides(*settings))
    made = records(folder, 2)
    return [
        load_example(record, SemanticInput.of_config(cfg), np.random.default_rng(i)) for i, record in enumerate(made)
    ]


def detectron2_inputs(batch: list[SemanticExample]) -> list[dict[str, Any]]:
    """The same batch as Detectron2 takes it."""
    return [{"image": example.image, "sem_seg": example.labels} for example in batch]


def overrides(*settings: Mapping[str, Any]) -> list[str]:
    """KEY VALUE pairs, later settings over earlier ones."""
    merged = {key: value for part in settings for key, value in part.items()}
    return [text for key, value in merged.items() for text in (key, str(value))]


def load_reference(model: nn.Module, name: str) -> nn.Module:
    """Give a model the weights of the recording."""
    state = reference().state_dict(name)
    model.load_state_dict({key: torch.from_numpy(value) for key, value in state.items()})
    return model.eval()
