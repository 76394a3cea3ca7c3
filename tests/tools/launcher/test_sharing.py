"""tools/launcher/sharing.py: what runs at a time on this machine, and in how many threads."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from launcher import sharing
from launcher.cluster.resources import Resources
from launcher.record import Entry, Record
from launcher.stages.options import PretrainOptions
from launcher.stages.stage import Stage


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "usable_cores", lambda: 2)


def a_stage(name: str, parallel: int | None = 2, **asked: Any) -> Stage:
    return Stage(name, PretrainOptions(None, ()), name, name, Resources(**asked), parallel=parallel)


def names(ready: list[Stage], live: list[Stage], limit: int = 2) -> list[str]:
    return [stage.name for stage in sharing.next_stages(ready, live, limit)]


@pytest.mark.usefixtures("two_cores")
def test_processes_of_two_stages_never_share_a_core() -> None:
    pretrain, first, second, third = a_stage("p", processes=2), a_stage("1"), a_stage("2"), a_stage("3")
    assert names([pretrain, first, second], []) == ["p"]
    assert names([first, second], [pretrain]) == []
    assert names([first, second, third], []) == ["1", "2"]
    assert names([second, third], [first]) == ["2"]
    assert names([first, second], [], limit=1) == ["1"]


@pytest.mark.usefixtures("two_cores")
def test_a_stage_larger_than_the_machine_runs_alone() -> None:
    large, small = a_stage("large", processes=8, cpus=2), a_stage("small")
    assert names([large, small], []) == ["large"]
    assert names([large], [small]) == []


@pytest.mark.usefixtures("two_cores")
def test_threads_are_those_asked_for_or_the_share() -> None:
    assert sharing.threads(a_stage("one", cpus=3), limit=2) == 3
    assert sharing.threads(a_stage("one"), limit=2) == 1
    assert sharing.threads(a_stage("alone"), limit=1) is None  # its tool knows better
    assert sharing.threads(a_stage("two", processes=2), limit=2) is None
    assert sharing.threads(a_stage("gpu", gpus=1, cpus=4), limit=1) is None
    assert sharing.threads(a_stage("gpu beside others", gpus=1), limit=2) == 1


def test_trials_run_on_as_many_gpus_as_are_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "usable_cores", lambda: 64)
    monkeypatch.setattr(sharing, "free_gpus", lambda: ("2", "3"))
    trials = [a_stage(str(number), None, gpus=1) for number in range(4)]
    pair, convert = a_stage("pair", None, gpus=2), a_stage("convert", None)
    assert names(trials, [], limit=4) == ["0", "1"]
    assert names([trials[0], pair, trials[1]], [], limit=4) == ["0"]
    assert names([pair, convert], [trials[3]], limit=4) == ["pair", "convert"]
    assert names(trials, [trials[3]], limit=2) == ["0"]
    monkeypatch.setattr(sharing, "free_gpus", lambda: ())  # all are another run's
    assert names(trials, [], limit=4) == ["0"]
    assert names(trials, [convert], limit=4) == []
    assert names([convert, trials[0]], [trials[3]], limit=4) == ["convert"]


def test_of_an_array_no_more_run_than_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "usable_cores", lambda: 64)
    monkeypatch.setattr(sharing, "free_gpus", lambda: tuple("01234567"))
    few = [dataclasses.replace(a_stage(f"few_{number}", 1, gpus=1), array="few") for number in range(3)]
    many = [dataclasses.replace(a_stage(f"many_{number}", None, gpus=1), array="many") for number in range(3)]
    assert names([*few, *many], [], limit=8) == ["few_0", "many_0", "many_1", "many_2"]
    assert names([*few[1:], *many], [few[0]], limit=8) == ["many_0", "many_1", "many_2"]


def test_as_many_stages_run_at_a_time_as_there_are_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "visible_gpus", lambda: tuple("01234567"))
    stages = [a_stage("a", parallel=4), a_stage("b", parallel=None)]
    record = Record(tmp_path, "local", "/", {stage.name: Entry(stage) for stage in stages})
    assert sharing.local_limit(record) == 4
    record.entries["b"].stage = dataclasses.replace(stages[1], resources=Resources(gpus=1))
    assert sharing.local_limit(record) == 8
    record.entries["b"].stage = dataclasses.replace(record.entries["b"].stage, parallel=2)
    assert sharing.local_limit(record) == 4
