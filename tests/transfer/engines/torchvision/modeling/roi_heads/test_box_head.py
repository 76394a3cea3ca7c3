"""The detections of the box branch."""

import torch
from torch import Tensor

from transfer.engines.torchvision.modeling.roi_heads.box_head import BoxPredictor, BoxSettings

WEIGHTS = (10.0, 10.0, 5.0, 5.0)


def detect(logits: Tensor, deltas: Tensor, boxes: Tensor, **changes: float) -> list[tuple[int, float]]:
    values = {"score_threshold": 0.05, "nms_threshold": 0.5, "max_detections": 100} | changes
    predictor = BoxPredictor(4, BoxSettings(2, False, list(WEIGHTS), 0.0, 1.0, **values))  # type: ignore[arg-type]
    (found,) = predictor.detect(logits, deltas, [boxes], [(100, 100)])
    return list(zip(found.classes.tolist(), found.scores.tolist(), strict=True))


def test_detection_thresholds_then_suppresses_per_class() -> None:
    boxes = torch.tensor([[0.0, 0, 50, 50], [1, 0, 50, 50], [60, 60, 90, 90]])
    logits = torch.tensor([[5.0, 3.0, 0.0], [6.0, 0.0, 0.0], [0.0, 0.5, 9.0]])
    found = detect(logits, torch.zeros(3, 8), boxes)
    assert [c for c, _ in found] == [0, 1]  # the second box beats the first in class 0; class 1 keeps its own
    assert found[0][1] > found[1][1] > 0.05
    assert len(detect(logits, torch.zeros(3, 8), boxes, max_detections=1)) == 1
    assert len(detect(logits, torch.zeros(3, 8), boxes, nms_threshold=0.999)) == 3
