"""Write tests/fixtures/detectron2/training/*.json: what the real Detectron2 gives for the models of the tests."""

import tempfile
from pathlib import Path

import torch

from tests.support.transfer import detectron2_models, semantic_models, small_models, training_steps


def main() -> None:
    """Measure and write every model."""
    for name, settings in training_steps.MODELS.items():
        cfg = small_models.config(*settings)
        with tempfile.TemporaryDirectory() as folder:
            batch = training_steps.samples(Path(folder), cfg.MODEL.MASK_ON, cfg.MODEL.KEYPOINT_ON)
        inputs = detectron2_models.inputs(batch)
        training_steps.record(name, detectron2_models.steps(inputs, *settings, dtype=torch.float64))
    for name, settings in semantic_models.MODELS.items():
        with tempfile.TemporaryDirectory() as folder:
            inputs = semantic_models.detectron2_inputs(semantic_models.examples(Path(folder), *settings))
        training_steps.record(name, detectron2_models.steps(inputs, *settings, dtype=torch.float64))


if __name__ == "__main__":
    main()
