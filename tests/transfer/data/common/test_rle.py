"""Run-length masks: the check agrees with what pycocotools encodes, and nothing bad passes it."""

import json
from typing import Any

import numpy as np
import pycocotools.mask
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from transfer.data.common import rle

unhurried = settings(max_examples=60, deadline=None)  # the machine may be busy

masks = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40), elements=st.integers(0, 1))


def encode(mask: np.ndarray) -> dict[str, Any]:
    encoded = pycocotools.mask.encode(np.asfortranarray(mask))
    return {"size": [int(side) for side in encoded["size"]], "counts": encoded["counts"].decode()}


@unhurried
@given(masks)
def test_what_pycocotools_encodes_has_no_fault(mask: np.ndarray) -> None:
    assert rle.mask_fault(json.loads(json.dumps(encode(mask))), *mask.shape) is None


@unhurried
@given(masks)
def test_runs_compress_to_the_same_mask(mask: np.ndarray) -> None:
    flat = mask.flatten(order="F")
    changes = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff([0, *changes, flat.size]).tolist()
    if flat[0]:
        runs = [0, *runs]  # the first run is of background
    plain = {"size": list(mask.shape), "counts": runs}
    assert rle.mask_fault(plain, *mask.shape) is None
    assert rle.compress_mask(plain) == encode(mask)
    assert rle.compress_mask(encode(mask)) == encode(mask)


def test_large_runs() -> None:
    mask = np.zeros((4000, 3000), dtype=np.uint8)
    mask[1:, 2000:] = 1
    assert rle.mask_fault(encode(mask), 4000, 3000) is None


@unhurried
@given(masks, st.data())
def test_a_mutated_mask_is_refused_or_still_a_mask(mask: np.ndarray, data: st.DataObject) -> None:
    coded = encode(mask)
    text = list(coded["counts"])
    at = data.draw(st.integers(0, len(text)))
    text[at : at + data.draw(st.integers(0, 2))] = data.draw(st.text(max_size=3))
    coded["counts"] = "".join(text)
    if rle.mask_fault(coded, *mask.shape) is None:
        assert pycocotools.mask.decode(coded).shape == mask.shape


@unhurried
@given(st.text(alphabet=[chr(code) for code in range(48, 112)], max_size=12))
def test_texts_of_the_right_letters(counts: str) -> None:
    coded = {"size": [5, 5], "counts": counts}
    if rle.mask_fault(coded, 5, 5) is None:
        assert pycocotools.mask.area(coded) == pycocotools.mask.decode(coded).sum()


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (None, "needs size and counts"),
        ({"size": [2, 2]}, "needs size and counts"),
        ({"size": [2, 3], "counts": [4]}, "mask size"),
        ({"size": [10**9, 10**9], "counts": "0"}, "mask size"),
        ({"size": [2, 2], "counts": [1, 2]}, "sum to 3"),
        ({"size": [2, 2], "counts": [1, 4]}, "sum to 5"),
        ({"size": [2, 2], "counts": [-1, 5]}, "not all integers from 0 up"),
        ({"size": [2, 2], "counts": [4.0]}, "not all integers from 0 up"),
        ({"size": [2, 2], "counts": 4}, "int"),
        ({"size": [2, 2], "counts": "~"}, "compressed"),
        ({"size": [2, 2], "counts": "4\udc80"}, "compressed"),  # half a surrogate pair, as JSON can hold it
        ({"size": [2, 2], "counts": "P"}, "compressed"),  # says that more follows, and nothing does
        ({"size": [2, 2], "counts": "PPPPPPPPPPPP0"}, "compressed"),
        ({"size": [2, 2], "counts": "K9"}, "negative"),
        ({"size": [2, 2], "counts": ""}, "sum to 0"),
    ],
)
def test_bad_masks_are_explained(mask: Any, message: str) -> None:
    fault = rle.mask_fault(mask, 2, 2)
    assert fault is not None
    assert message in fault
