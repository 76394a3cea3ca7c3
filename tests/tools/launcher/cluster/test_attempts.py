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


def failed(rank: int, host: str, code: int = 1, **more: Any) -> dict[str, Any]:
    return {"event": "end", "rank": rank, "host": host, "code": code, "outcome": "failed", "position": 6, **more}


@pytest.mark.parametrize(
    ("ends", "nodes"),
    [
        ([failed(0, "a"), failed(3, "b", -9), failed(1, "a"), failed(2, "b")], ["b"]),  # killed
        ([failed(0, "a", blamed=2), failed(1, "a"), failed(2, "b"), failed(3, "b")], ["b"]),
        ([failed(0, "a"), failed(1, "a")], ["b"]),  # lost
        ([failed(0, "a"), failed(1, "a"), failed(2, "b"), failed(3, "b")], []),  # an error of all
        ([failed(0, "a", blamed=2), failed(1, "a")], ["b"]),
        ([failed(0, "a", 70), {"event": "unhealthy", "hosts": ["a"]}, failed(2, "b", 70)], ["a"]),
    ],
)
def test_the_node_that_failed_is_known(ends: list[dict[str, Any]], nodes: list[str]) -> None:
    start = {"event": "start", "host": "a"}
    assert attempts.culprits([start, *ends], ["a", "b"]) == nodes


def test_a_job_of_one_node_failed_there_unless_its_user_erred() -> None:
    assert attempts.culprits([failed(0, "a")], ["a"]) == ["a"]
    assert attempts.culprits([failed(0, "a", 2)], ["a"]) == []


START, RETRY = {"event": "start", "position": 6}, {"event": "retry", "number": 1, "of": 3}
UNHEALTHY = {"event": "unhealthy", "hosts": ["a"]}


@pytest.mark.parametrize(
    ("lines", "heals"),
    [
        ([START, failed(0, "a")], True),  # the first failure may be that of a node
        ([START, failed(0, "a", 2)], False),  # a wrong setting
        ([START, failed(0, "a", 2, position=8)], True),
        ([START, failed(0, "a"), {**RETRY, "position": 6}, START, failed(0, "a", -9)], False),
        ([START, failed(0, "a"), {**RETRY, "position": 6}, START, failed(0, "a", -9, position=8)], True),
        ([START, failed(0, "a", 70), {**RETRY, "position": 6}, START, UNHEALTHY, failed(0, "a", 70)], True),
        ([START, failed(0, "a", position=None)], True),
        ([START, failed(0, "a"), {**RETRY, "position": 0}, START, failed(0, "a", position=None)], False),
    ],
)
def test_a_failure_may_heal_if_the_run_gets_on(lines: list[dict[str, Any]], heals: bool) -> None:
    assert attempts.may_heal(lines) == heals


def test_the_rank_that_is_blamed_is_that_of_this_attempt(tmp_path: Path) -> None:
    output = tmp_path / "12_0_log.out"
    output.write_text("step 3\nerror on rank 1 of host a: no space\n")
    before = output.stat().st_size
    assert attempts.blamed_rank(output, 0) == 1
    assert attempts.blamed_rank(output, before) is None
    with open(output, "a") as file:
        file.write("error on ranks 5 to 7 of host b:\nTraceback\n")
    assert attempts.blamed_rank(output, before) == 5
    assert attempts.blamed_rank(tmp_path / "none", 0) is None
