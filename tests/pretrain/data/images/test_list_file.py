"""A list of a file system that answers slowly: each line costs one look, and many are under way at a time."""

import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from pretrain.data.images import list_file
from pretrain.runtime.errors import PretrainError


class SlowLooks:
    """The file system's answers, each of which takes a while; counts them and how many are under way at most."""

    def __init__(self) -> None:
        self.stat, self.lock = os.stat, threading.Lock()
        self.count = self.under_way = self.most = 0

    def __call__(self, *args: Any, **options: Any) -> os.stat_result:
        with self.lock:
            self.count += 1
            self.under_way += 1
            self.most = max(self.most, self.under_way)
        time.sleep(0.002)
        with self.lock:
            self.under_way -= 1
        return self.stat(*args, **options)


def test_a_long_list_is_looked_up_once_a_line_and_many_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{number % 7}/{number}.jpg" for number in range(1000)]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "list.txt").write_text("\n".join(names))
    slow = SlowLooks()
    monkeypatch.setattr(list_file, "LINES", 300)
    monkeypatch.setattr(os, "stat", slow)
    found = list_file.read_list(str(tmp_path / "list.txt"), str(tmp_path))
    monkeypatch.undo()
    assert [found[index] for index in range(len(found))] == names  # in the order of the list
    assert slow.count <= len(names) + 10
    assert slow.most > 16


@pytest.mark.parametrize("slow", [0.0, float("inf")], ids=["with threads", "without"])
def test_every_line_is_looked_up_however_quick_the_disk(
    slow: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(list_file, "SLOW", slow)
    names = [f"{number}.jpg" for number in range(200)]
    for name in names:
        (tmp_path / name).touch()
    (tmp_path / "list.txt").write_text("\n".join(names))
    found = list_file.read_list(str(tmp_path / "list.txt"), str(tmp_path))
    assert [found[index] for index in range(len(found))] == names
    (tmp_path / "150.jpg").unlink()
    with pytest.raises(PretrainError, match=r"1 of 200 paths are wrong: line 151: 150\.jpg: no such file"):
        list_file.read_list(str(tmp_path / "list.txt"), str(tmp_path))
