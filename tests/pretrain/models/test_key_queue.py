"""The ring buffer against a plain list."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pretrain.models.key_queue import KeyQueue


@settings(deadline=None)
@given(st.integers(1, 12), st.lists(st.integers(1, 30), max_size=8))
def test_it_holds_the_newest_keys_in_order_for_any_size_and_batch(size: int, batches: list[int]) -> None:
    queue = KeyQueue(size, 2)
    plain = [tuple(key) for key in queue.keys.tolist()]  # oldest first
    count = 0
    for n in batches:
        keys = torch.arange(count, count + 2 * n, dtype=torch.float32).view(n, 2)
        count += 2 * n
        queue.enqueue(keys)
        plain = (plain + [tuple(key) for key in keys.tolist()])[-size:]
        oldest_first = queue.keys.roll(-queue.pointer, 0).tolist()
        assert [tuple(key) for key in oldest_first] == plain


def test_it_starts_with_random_directions() -> None:
    keys = KeyQueue(500, 16).keys
    torch.testing.assert_close(keys.norm(dim=1), torch.ones(500))
    assert keys.mean(0).norm() < 0.3


def test_it_keeps_no_graph() -> None:
    queue = KeyQueue(4, 2)
    queue.enqueue(torch.ones(2, 2, requires_grad=True) * 2)
    assert not queue.keys.requires_grad
