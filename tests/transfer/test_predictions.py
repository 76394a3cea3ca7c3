"""Rows of a results file hold what the detections hold, bit for bit."""

import json

import numpy as np
import pycocotools.mask
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from transfer.predictions import Detections, LabelMap, coco_detections, label_map_rows

unhurried = settings(max_examples=60, deadline=None)  # the machine may be busy

pixels = st.floats(0, 4000, width=32)
boxes = st.tuples(pixels, pixels, pixels, pixels).map(
    lambda b: [min(b[0], b[2]), min(b[1], b[3]), max(b[0], b[2]), max(b[1], b[3])]
)


@unhurried
@given(st.lists(st.tuples(boxes, st.floats(0, 1, width=32), st.integers(0, 2)), max_size=5))
def test_rows_give_back_boxes_scores_and_classes_exactly(found):
    detections = Detections(
        torch.tensor([box for box, _, _ in found]).reshape(-1, 4),
        torch.tensor([score for _, score, _ in found]),
        torch.tensor([index for _, _, index in found], dtype=torch.int64),
    )
    before = detections.boxes.clone()
    rows = json.loads(json.dumps(coco_detections(detections, 7, (1, 18, 90))))
    corners = [[x, y, x + w, y + h] for x, y, w, h in (row["bbox"] for row in rows)]
    assert torch.equal(torch.tensor(corners, dtype=torch.float64).reshape(-1, 4), before.double())
    assert [row["score"] for row in rows] == detections.scores.tolist()
    assert [row["category_id"] for row in rows] == [(1, 18, 90)[index] for _, _, index in found]
    assert all(row["image_id"] == 7 and "segmentation" not in row for row in rows)
    assert torch.equal(detections.boxes, before)


@unhurried
@given(st.integers(1, 9), st.integers(1, 9), st.randoms(use_true_random=False))
def test_masks_come_back_from_their_run_lengths(height, width, random):
    masks = torch.tensor([[[random.random() < 0.5 for _ in range(width)] for _ in range(height)] for _ in range(2)])
    detections = Detections(torch.zeros(2, 4), torch.tensor([0.9, 0.8]), torch.tensor([0, 0]), masks)
    rows = json.loads(json.dumps(coco_detections(detections, 1, (1,))))
    for row, mask in zip(rows, masks, strict=True):
        assert row["segmentation"]["size"] == [height, width]
        np.testing.assert_array_equal(pycocotools.mask.decode(row["segmentation"]), mask.numpy())


def test_rows_of_a_label_map_hold_every_pixel():
    classes = torch.tensor([[0, 2, 2], [2, 1, 0]], dtype=torch.uint8)
    rows = json.loads(json.dumps(label_map_rows(LabelMap(classes), "a", (0, 1, 2))))
    assert [(row["image_id"], row["category_id"]) for row in rows] == [("a", 0), ("a", 1), ("a", 2)]
    found = sum(row["category_id"] * pycocotools.mask.decode(row["segmentation"]) for row in rows)
    assert found.tolist() == classes.tolist()
