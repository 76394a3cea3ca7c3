"""tools/launcher/cluster/attempts.py: what the log of a stage's attempts tells."""

import json
from pathlib import Path
from typing import Any

import pytest

from launcher.cluster import attempts
from pretrain.checkpoints import saver
from transfer.engines.common import checkpoint_files


def stopped(position: int | None, signal: str | None = "SIGUSR2", outcome: str = "stopped") -> dict[str, Any]:
    return {"event": "end", "job": "12", "rank": 0, "outcome": outcome, "signal": signal, "position": position}


FAILED = {"event": "end", "job": "12", "rank": 0, "outcome": "failed", "code": 1, "position": 6}
OTHER_RANK = {**FAILED, "rank": 1}
OLDER = {"event": "end", "job": "12", "rank": 0, "outcome": "stopped", "signal": "SIGUSR2"}  # without a position


@pytest.mark.parametrize(
    ("ends", "count"),
    [
        ([], 0),
        ([stopped(6)], 1),
        ([stopped(0), stopped(6), stopped(6)], 2),
        ([stopped(6), stopped(6), stopped(6, outcome="no progress")], 3),
        ([stopped(6), stopped(8)], 1),
        ([stopped(6), FAILED, stopped(6)], 1),
        ([stopped(6), OTHER_RANK, stopped(6)], 2),
        ([stopped(6), stopped(6), FAILED], 0),
        ([stopped(6, None), stopped(6, None)], 0),  # the storage was away
        ([OLDER, OLDER], 0),
        ([stopped(None), stopped(None)], 0),
    ],
)
def test_stops_at_one_position_are_counted(ends: list[dict[str, Any]], count: int) -> None:
    start = {"event": "start", "job": "12", "host": "node1"}
    assert attempts.standstill([line for end in ends for line in (start, end)]) == count


def test_a_position_is_that_of_the_newest_checkpoint(tmp_path: Path) -> None:
    assert attempts.position(tmp_path) == 0
    mine = saver.Saver(tmp_path, keep=2)
    mine.save("checkpoint_0000.pth.tar", {}, epoch=0, step=6)
    mine.close()
    assert attempts.position(tmp_path) == 6
    checkpoint_files.write_checkpoint(tmp_path / "model_0000014.pth", {}, 15, [])
    assert attempts.position(tmp_path) == 15


def test_a_line_cut_short_is_left_out(tmp_path: Path) -> None:
    log = attempts.Log(tmp_path / "a" / "b.jsonl")
    assert log.lines() == []
    assert log.add(event="start", job="12")
    with open(log.path, "a") as file:
        file.write(json.dumps({"event": "start", "job": "13"}) + '\n{"event": ')
    assert [line["job"] for line in log.lines()] == ["12", "13"]
    assert [line["job"] for line in log.lines("13")] == ["13"]
