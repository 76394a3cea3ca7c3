"""tools/benchmarks/index_memory.py: what an index of synthetic names weighs."""

import pytest

from benchmarks import index_memory

NAMES = 20_000
BYTES = {"files": 30 + 8, "shards": 13 + 8 + 8 + 8}  # of a name: its text, its end; a shard's offset and size


@pytest.mark.parametrize("kind", index_memory.KINDS)
def test_the_written_index_is_its_arrays(kind: str) -> None:
    written, peak, own = index_memory.measure_index(kind, NAMES)
    assert written == pytest.approx(NAMES * BYTES[kind], rel=0.02)
    assert min(peak, own) >= 0


def test_the_table_is_in_mb_a_million_names() -> None:
    sizes = {"written": 76_000_000, "peak": 80_000_000, "own": 0}
    table, _ = index_memory.tables({"millions": {"2": {"files": sizes}}})
    assert [next(iter(column.cells)) for column in table.columns] == ["2", "files", "38.0", "40.0", "0.0"]
