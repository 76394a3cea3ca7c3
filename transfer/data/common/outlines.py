"""The outline of a mask as polygons that cover exactly its pixels."""

from collections import defaultdict

import numpy as np

Loop = list[tuple[int, int]]  # corners (x, y) of a closed outline along pixel edges


def mask_polygons(mask: np.ndarray) -> list[list[int]]:
    """Return COCO's polygons, each x1, y1, x2, y2, ..., whose union is exactly the pixels of `mask` (H, W) bool."""
    return [[value for corner in loop for value in corner] for loop in polygons(mask)]


def polygons(mask: np.ndarray) -> list[Loop]:
    """Return outlines of exactly the pixels of `mask` (H, W) bool; their union is the mask.

    A polygon has no holes, so a mask with one is cut in two along a column through it.
    """
    loops = _outlines(mask)
    holes = [loop for loop in loops if _signed_area(loop) < 0]
    if not holes:
        return loops
    columns = [x for x, _ in holes[0]]
    cut = (min(columns) + max(columns) + 1) // 2  # strictly inside a hole of two columns or more, else at its edge
    left = mask.copy()
    left[:, cut:] = False
    return polygons(left) + polygons(mask & ~left)


def _outlines(mask: np.ndarray) -> list[Loop]:
    """Return closed walks along the pixel edges of `mask`, the mask on the right: outer ones clockwise, holes not."""
    steps = _edges(mask)
    loops: list[Loop] = []
    while steps:
        corner = min(steps, key=lambda point: (point[1], point[0]))  # no two walks meet at the topmost corner left
        step = (0, 0)
        loop: Loop = []
        while corner in steps:
            right_turn = (-step[1], step[0])  # where two walks meet, a right turn stays with its own pixel
            choices = steps[corner]
            new = right_turn if right_turn in choices else choices[0]
            choices.remove(new)
            if not choices:
                del steps[corner]
            if new != step:
                loop.append(corner)
                step = new
            corner = (corner[0] + step[0], corner[1] + step[1])
        loops.append(loop)
    return loops


def _edges(mask: np.ndarray) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """Return the pixel edges of a mask: for each corner (x, y), the steps of length 1 that leave it."""
    height, width = mask.shape
    padded = np.pad(mask, 1)
    steps: defaultdict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    for (dx, dy), (start_x, start_y), step in (
        ((0, -1), (0, 0), (1, 0)),  # the upper edge of a pixel is walked to the right,
        ((1, 0), (1, 0), (0, 1)),  # the right one down,
        ((0, 1), (1, 1), (-1, 0)),  # the lower one to the left,
        ((-1, 0), (0, 1), (0, -1)),  # the left one up
    ):
        neighbour = padded[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]
        for y, x in np.argwhere(mask & ~neighbour).tolist():
            steps[(x + start_x, y + start_y)].append(step)
    return steps


def _signed_area(loop: Loop) -> float:
    """Return the signed area of a walk: positive for a clockwise one (y points down)."""
    following = [*loop[1:], loop[0]]
    return sum(x * next_y - next_x * y for (x, y), (next_x, next_y) in zip(loop, following, strict=True)) / 2
