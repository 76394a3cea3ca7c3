"""transfer/data/shared/loader_workers.py: values come in order from other processes, and errors as they were raised."""

import multiprocessing
import os
from typing import Any

import pytest
import torch

from transfer.data.shared.loader_workers import load_ahead, loader_error
from transfer.errors import TransferError

# Where the tests have fewer cores than workers.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")
RECORDS = [{"number": number} for number in range(7)]


def square(record: dict[str, Any]) -> tuple[int, int]:
    if record["number"] == 4:
        raise TransferError("4.jpg: TransferError: not an image")
    return record["number"] ** 2, os.getpid()


def die(record: dict[str, Any]) -> int:
    os._exit(1)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_values_come_in_order_and_errors_in_their_place(workers: int) -> None:
    before = torch.get_rng_state()
    with load_ahead(RECORDS, square, workers) as loaded:
        values = list(loaded)
    assert [str(value) if isinstance(value, TransferError) else value[0] for value in values] == [
        0, 1, 4, 9, "4.jpg: TransferError: not an image", 25, 36,
    ]  # fmt: skip
    processes = {value[1] for value in values if not isinstance(value, TransferError)}
    assert (os.getpid() in processes) == (workers == 0)
    assert len(processes) == max(workers, 1)
    assert torch.equal(torch.get_rng_state(), before)


def test_workers_end_with_the_block_wherever_it_is_left() -> None:
    before = set(multiprocessing.active_children())
    with load_ahead(RECORDS, square, 2) as loaded:
        assert next(loaded) is not None
        assert len(set(multiprocessing.active_children()) - before) == 2
    assert set(multiprocessing.active_children()) == before


def test_nothing_to_load_needs_no_worker() -> None:
    with load_ahead([], square, 2) as loaded:
        assert list(loaded) == []


def test_a_worker_that_dies_is_named_with_what_helps() -> None:
    with load_ahead(RECORDS, die, 1) as loaded, pytest.raises(TransferError, match=r"Fewer DATALOADER\.NUM_WORKERS"):
        next(loaded)


def test_an_error_that_cannot_travel_becomes_its_text() -> None:
    class OfThisTestError(Exception):
        pass

    assert str(loader_error(OfThisTestError("a bug"))) == "OfThisTestError: a bug"
