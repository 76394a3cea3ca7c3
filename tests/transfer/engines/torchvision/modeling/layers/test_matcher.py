"""Matching to true boxes, and the sample that is trained on."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from transfer.engines.torchvision.modeling.layers.matcher import IGNORE, match_boxes, subsample


def test_match_groups_by_overlap_and_keeps_the_best() -> None:
    quality = torch.tensor([[0.1, 0.35, 0.8, 0.0], [0.2, 0.3, 0.1, 0.0]])
    index, labels = match_boxes(quality, [0.3, 0.7], [0, IGNORE, 1])
    assert index.tolist()[:3] == [1, 0, 0]
    assert labels.tolist() == [0, IGNORE, 1, 0]
    assert match_boxes(quality, [0.3, 0.7], [0, IGNORE, 1], keep_best=True)[1].tolist() == [0, 1, 1, 0]
    assert match_boxes(torch.zeros(0, 3), [0.5], [0, 1])[1].tolist() == [0, 0, 0]


@settings(deadline=None)
@given(st.lists(st.integers(-1, 3), max_size=60), st.integers(1, 40), st.floats(0, 1))
def test_subsample_takes_each_box_once_within_its_share(labels: list[int], count: int, fraction: float) -> None:
    known = torch.tensor(labels, dtype=torch.int64)
    positive, negative = subsample(known, count, fraction, background=3)
    assert len(positive) == min(int(count * fraction), int(((known >= 0) & (known < 3)).sum()))
    assert len(negative) == min(count - len(positive), int((known == 3).sum()))
    drawn = torch.cat((positive, negative)).tolist()
    assert len(set(drawn)) == len(drawn)
    assert ((known[positive] >= 0) & (known[positive] < 3)).all()
    assert (known[negative] == 3).all()
