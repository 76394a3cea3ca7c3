"""Write tests/fixtures/detectron2/training/*.json: what the real Detectron2 gives for training_steps.MODELS."""

import tempfile
from pathlib import Path

import torch

from tests.support.transfer import detectron2_models, small_models, training_steps


def main() -> None:
    """Measure and write every model."""
    for name, settings in training_steps.MODELS.items():
        cfg = small_models.config(*settings)
        with tempfile.TemporaryDirectory() as folder:
            batch = training_steps.samples(Path(folder), cfg.MODEL.MASK_ON, cfg.MODEL.KEYPOINT_ON)
        training_steps.record(name, detectron2_models.steps(batch, *settings, dtype=torch.float64))


if __name__ == "__main__":
    main()
