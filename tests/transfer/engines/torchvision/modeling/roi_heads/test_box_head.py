"""The detections of the box branch."""

import pytest
import torch
from torch import Tensor
from torchvision.ops import batched_nms

from transfer.engines.torchvision.modeling.layers.box_ops import clip, decode
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


@pytest.mark.parametrize("agnostic", [False, True])
def test_boxes_above_the_threshold_are_those_of_decoding_all(agnostic: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    regions, classes = 60, 7
    corners = torch.rand(regions, 2, generator=generator) * 60
    proposals = torch.cat((corners, corners + 5 + 30 * torch.rand(regions, 2, generator=generator)), dim=1)
    logits = 2 * torch.randn(regions, classes + 1, generator=generator)
    deltas = torch.randn(regions, 4 * (1 if agnostic else classes), generator=generator)
    deltas[3, 0], deltas[4, -1], deltas[5, 1], logits[6, 0] = torch.nan, torch.inf, 3e38, torch.nan
    deltas[7, 2] = 2e9  # as in row 4, the box is at most 62.5 times as large, and finite
    settings = BoxSettings(classes, agnostic, list(WEIGHTS), 0.0, 1.0, 0.02, 0.5, 300)
    (found,) = BoxPredictor(4, settings).detect(logits, deltas, [proposals], [(80, 90)])

    boxes, scores = decode(deltas, proposals, WEIGHTS), logits.softmax(dim=1)
    finite = torch.isfinite(boxes).all(dim=1) & torch.isfinite(scores).all(dim=1)
    assert finite.nonzero().squeeze(1).tolist() == [i for i in range(regions) if i not in (3, 5, 6)]
    boxes, scores = clip(boxes[finite].unflatten(1, (-1, 4)), (80, 90)), scores[finite, :-1]
    region, label = (scores > 0.02).nonzero().unbind(1)
    boxes, scores = boxes[region, 0 if agnostic else label], scores[region, label]
    kept = batched_nms(boxes, scores, label, 0.5)[:300]
    assert torch.equal(found.boxes, boxes[kept])
    assert torch.equal(found.scores, scores[kept])
    assert torch.equal(found.classes, label[kept])
