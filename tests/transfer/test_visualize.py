"""Pictures of detections: what is drawn, where, and that nothing else is touched."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from transfer.predictions import Detections
from transfer.visualize import DrawnBox, class_color, draw_boxes, draw_detections, draw_label_map

unhurried = settings(max_examples=60, deadline=None)  # the machine may be busy

CLASSES = ("cat", "red blood cell")
grey = np.full((120, 200, 3), 100, dtype=np.uint8)


def detections(boxes: list[list[float]], scores: list[float], masks: torch.Tensor | None = None) -> Detections:
    return Detections(torch.tensor(boxes).reshape(-1, 4), torch.tensor(scores), torch.arange(len(scores)) % 2, masks)


def test_nothing_to_show_is_the_image_itself() -> None:
    for found in (detections([], []), detections([[10, 10, 60, 60]], [0.4])):
        np.testing.assert_array_equal(np.asarray(draw_detections(grey, found, CLASSES, min_score=0.5)), grey)


def test_a_box_is_drawn_on_its_edges_in_its_class_color() -> None:
    before = grey.copy()
    picture = np.asarray(draw_detections(grey, detections([[40, 50, 120, 100]], [0.5]), CLASSES, min_score=0.5))
    np.testing.assert_array_equal(grey, before)
    assert picture.shape == grey.shape
    color = class_color(0)
    for y, x in ((75, 40), (75, 119), (99, 80)):  # left, right, bottom
        assert tuple(picture[y, x]) == color
    for y, x in ((75, 80), (75, 121), (101, 80), (75, 38)):  # inside, outside
        assert tuple(picture[y, x]) == (100, 100, 100)
    assert (picture[:50] != 100).any()  # the label stands above
    assert (picture[102:] == 100).all()


def test_a_mask_lets_the_image_through() -> None:
    mask = torch.zeros(1, 120, 200, dtype=torch.bool)
    mask[0, 60:90, 50:110] = True
    picture = np.asarray(draw_detections(grey, detections([[40, 50, 120, 100]], [0.9], mask), CLASSES, min_score=0))
    inside = picture[75, 80].astype(float)
    color = np.array(class_color(0), dtype=float)
    share = (inside - 100) / (color - 100)
    np.testing.assert_allclose(share, share.mean(), atol=0.02)
    assert 0.2 < share.mean() < 0.8
    assert tuple(picture[55, 80]) == (100, 100, 100)


def test_keypoints_are_dots_joined_by_a_persons_limbs() -> None:
    points = torch.zeros(1, 17, 3)
    points[0, 5], points[0, 7] = torch.tensor([60.5, 70.5, 0.9]), torch.tensor([100.5, 70.5, 0.9])  # an upper arm
    points[0, 9] = torch.tensor([100.5, 90.5, 0.01])  # too uncertain to be drawn
    found = detections([[40, 50, 120, 100]], [0.9])
    found = Detections(found.boxes, found.scores, found.classes, None, points)
    picture = np.asarray(draw_detections(grey, found, CLASSES, min_score=0))
    assert tuple(picture[70, 60]) == tuple(picture[70, 100]) == (255, 255, 255)
    assert tuple(picture[70, 80]) == class_color(0)
    assert tuple(picture[90, 100]) == tuple(picture[80, 100]) == (100, 100, 100)


@unhurried
@given(
    st.lists(st.tuples(*[st.floats(-50, 400, width=32)] * 4), max_size=6),
    st.tuples(st.integers(1, 300), st.integers(1, 300)),
)
def test_any_boxes_on_any_size_are_drawn(corners: list[tuple[float, ...]], size: tuple[int, int]) -> None:
    boxes = [[min(a, c), min(b, d), max(a, c), max(b, d)] for a, b, c, d in corners]
    image = np.zeros((*size, 3), dtype=np.uint8)
    picture = draw_detections(image, detections(boxes, [0.9] * len(boxes)), CLASSES, min_score=0)
    assert picture.size == (size[1], size[0])


@pytest.mark.parametrize("side", [128, 2400])
def test_labels_are_legible_on_small_and_large_images(side: int) -> None:
    """The plate behind the text: tall enough to read, not covering the picture."""
    image = np.full((side, side, 3), 100, dtype=np.uint8)
    box = [0.0, side / 2, side - 1.0, side - 1.0]
    picture = np.asarray(draw_detections(image, detections([box], [0.9]), CLASSES, min_score=0))
    plate = np.flatnonzero((picture[: side // 2, 0] == class_color(0)).all(axis=1))
    assert 10 <= len(plate) <= side / 6


def test_the_best_label_has_its_place_and_others_move_away() -> None:
    one = draw_detections(grey, detections([[40, 50, 120, 100]], [0.9]), CLASSES, 0)
    two = draw_detections(grey, detections([[40, 50, 120, 100], [40, 50, 120, 100]], [0.9, 0.8]), CLASSES, 0)
    np.testing.assert_array_equal(np.asarray(one)[:49], np.asarray(two)[:49])


def test_a_cased_dashed_box_shows_on_an_image_of_its_color() -> None:
    image = np.full((120, 200, 3), 255, dtype=np.uint8)
    box = DrawnBox((40, 50, 120, 100), (255, 255, 255), "", cased=True, dashed=True)
    picture = np.asarray(draw_boxes(image, [box]))
    for line in (picture[50, 40:120], picture[99, 40:120], picture[50:100, 40], picture[50:100, 119]):
        assert {tuple(pixel) for pixel in line.tolist()} == {(0, 0, 0), (255, 255, 255)}
    assert (picture[49, 39:121] == 0).all()
    assert (picture[54:96, 44:116] == 255).all()  # no plate


def test_class_colors_differ() -> None:
    def nearest(count: int) -> float:
        colors = map(class_color, range(count))
        return min(math.dist(one, other) for one, other in itertools.combinations(colors, 2))

    assert nearest(20) > 50
    assert nearest(80) > 10


def test_a_label_map_is_painted_over_its_image_with_a_legend() -> None:
    classes = np.zeros((120, 200), dtype=np.uint8)
    classes[:, 50:] = 1
    classes[:, 100:] = 2
    classes[:, 150:] = 255
    picture = np.asarray(draw_label_map(grey, classes, ("background", "cat", "red blood cell")))
    assert picture.shape[1] == 200
    np.testing.assert_array_equal(picture[:120, :50], grey[:, :50])
    np.testing.assert_array_equal(picture[:120, 150:], grey[:, 150:])
    for index, column in ((1, 75), (2, 125)):
        color = np.array(class_color(index))
        assert np.abs(picture[60, column] - (0.45 * 100 + 0.55 * color)).max() <= 1
        assert (picture[120:] == color).all(axis=-1).any()  # its plate
    assert (np.asarray(draw_label_map(grey, classes * 0, ("background", "cat"))) == grey).all()
    assert (np.asarray(draw_label_map(grey, classes * 0, ("sky", "cat")))[:120] != grey).any()
