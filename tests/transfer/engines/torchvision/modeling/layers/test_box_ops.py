"""Box code: deltas and back, clipping."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from transfer.engines.torchvision.modeling.layers import box_ops as box_code

WEIGHTS = (10.0, 10.0, 5.0, 5.0)
coordinate = st.floats(0, 500, width=32)
length = st.floats(1, 400, width=32)
box = st.tuples(coordinate, coordinate, length, length).map(lambda b: [b[0], b[1], b[0] + b[2], b[1] + b[3]])


@settings(deadline=None)
@given(st.lists(st.tuples(box, box), min_size=1, max_size=5))
def test_decode_inverts_encode(pairs: list[tuple[list[float], list[float]]]) -> None:
    source, target = torch.tensor([p[0] for p in pairs]), torch.tensor([p[1] for p in pairs])
    decoded = box_code.decode(box_code.encode(source, target, WEIGHTS), source, WEIGHTS)
    close = (target[:, 2:] - target[:, :2]) / (source[:, 2:] - source[:, :2]) < 62  # beyond, the code is clamped
    kept = close.all(dim=1)
    torch.testing.assert_close(decoded[kept], target[kept], rtol=1e-4, atol=5e-2)


def test_deltas_of_zero_keep_the_box_for_every_class() -> None:
    boxes = torch.tensor([[1.0, 2.0, 11.0, 32.0]])
    assert torch.equal(box_code.decode(torch.zeros(1, 12), boxes, WEIGHTS), boxes.repeat(1, 3))


@settings(deadline=None)
@given(st.lists(box, min_size=1, max_size=6))
def test_clipped_boxes_lie_in_the_image(found: list[list[float]]) -> None:
    clipped = box_code.clip(torch.tensor(found) - 50, (100, 150))
    assert (clipped >= 0).all()
    assert (clipped[:, 0::2] <= 150).all()
    assert (clipped[:, 1::2] <= 100).all()
