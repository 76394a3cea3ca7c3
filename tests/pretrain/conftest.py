"""Ranks of a script, each started by itself as srun does."""

import pathlib
from collections.abc import Sequence

import pytest

from tests.support.rank_scripts import Rank, free_port, write_script


@pytest.fixture
def start(tmp_path: pathlib.Path):
    """A function that starts ranks of a script as srun does, each by itself; all are ended after the test."""
    started: list[Rank] = []

    def start_ranks(body: str, size: int, ranks: Sequence[int] | None = None, **variables: str) -> list[Rank]:
        script = write_script(tmp_path, body)
        common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(size)}
        common |= {"LOCAL_WORLD_SIZE": str(size), "OMP_NUM_THREADS": "1", **variables}
        now = []
        for rank in range(size) if ranks is None else ranks:
            names = {**common, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            now.append(Rank(script, names, tmp_path / f"said{len(started) + len(now)}"))
        started.extend(now)
        return now

    yield start_ranks
    for process in started:
        process.end()
