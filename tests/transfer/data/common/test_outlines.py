"""The polygons of a mask cover exactly its pixels, whatever its form."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco_mask

from transfer.data.common.outlines import mask_polygons, polygons

# pycocotools 2.0.11 under NumPy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


@given(hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.booleans()))
def test_polygons_are_the_mask(mask: np.ndarray) -> None:
    loops = polygons(mask)
    covered = np.zeros_like(mask, dtype=int)
    for loop in loops:
        flat = [float(value) for corner in loop for value in corner]
        covered += coco_mask.decode(coco_mask.frPyObjects([flat], *mask.shape))[..., 0]
    assert (covered == mask).all()


def test_a_mask_with_a_hole_is_cut_so_that_polygons_can_say_it() -> None:
    mask = np.ones((5, 5), dtype=bool)
    mask[2, 2] = False
    loops = polygons(mask)
    assert len(loops) == 2
    flat = [[float(value) for value in polygon] for polygon in mask_polygons(mask)]
    assert coco_mask.area(coco_mask.merge(coco_mask.frPyObjects(flat, 5, 5))) == 24
