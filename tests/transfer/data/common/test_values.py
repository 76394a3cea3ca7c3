"""Boxes at the edges of their image: what is clipped lies inside, and is what there was inside."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transfer.data.common import values

HEIGHT, WIDTH = 30, 40
numbers = st.one_of(st.integers(-100, 100), st.floats(-100, 100))


@st.composite
def boxes_with_area(draw: st.DrawFn) -> tuple[float, float, float, float]:
    """Boxes of which something lies inside the image, if not much."""
    (x1, x2), (y1, y2) = (
        (draw(st.floats(-100, side - 0.01)), draw(st.floats(side, 100)) if draw(st.booleans()) else side - 0.005)
        for side in (WIDTH, HEIGHT)
    )
    return x1, y1, x2, y2


@given(st.one_of(boxes_with_area(), st.tuples(numbers, numbers, numbers, numbers)))
def test_a_clipped_box_lies_inside_and_has_area(box: tuple[float, float, float, float]) -> None:
    if values.is_empty_box(box, HEIGHT, WIDTH):
        return
    x1, y1, x2, y2 = clipped = values.clip_box(box, HEIGHT, WIDTH)
    assert 0 <= x1 < x2 <= WIDTH
    assert 0 <= y1 < y2 <= HEIGHT
    assert not values.is_empty_box(clipped, HEIGHT, WIDTH)
    assert not values.reaches_beyond(clipped, HEIGHT, WIDTH)
    assert values.clip_box(clipped, HEIGHT, WIDTH) == clipped


@given(boxes_with_area(), st.floats(0, WIDTH), st.floats(0, HEIGHT))
def test_clipping_takes_no_point_of_the_image(box: tuple[float, float, float, float], x: float, y: float) -> None:
    before, after = (x1 <= x <= x2 and y1 <= y <= y2 for x1, y1, x2, y2 in (box, values.clip_box(box, HEIGHT, WIDTH)))
    assert before == after


@pytest.mark.parametrize(
    ("box", "beyond"),
    [
        ((0, 0, 40, 30), False),
        ((-1, -1, 41, 31), False),  # what rounding or counting from another end explains
        ((-1.5, 0, 9, 9), True),
        ((0, -1.5, 9, 9), True),
        ((0, 0, 41.5, 9), True),
        ((0, 0, 9, 31.5), True),
    ],
)
def test_a_pixel_beyond_the_edge_is_rounding_more_is_not(box: tuple[float, float, float, float], beyond: bool) -> None:
    assert values.reaches_beyond(box, HEIGHT, WIDTH) == beyond


@pytest.mark.parametrize("box", [(5, 5, 5, 9), (5, 5, 9, 5), (40, 0, 50, 9), (-9, 0, 0, 9), (0, 30, 9, 50)])
def test_points_lines_and_boxes_beside_the_image_are_empty(box: tuple[float, float, float, float]) -> None:
    assert values.is_empty_box(box, HEIGHT, WIDTH)
