"""The steps that a stage has done, and its speed, by its metrics.json."""

import functools
import json
from pathlib import Path
from typing import Any

import yaml

from ..stages.stage import Stage

_WINDOW = 10  # rows of metrics.json that the speed is the mean of

Progress = tuple[int | None, int | None, float | None, str]
UNKNOWN: Progress = (None, None, None, "")


def read_progress(stage: Stage) -> Progress:
    """Return the steps done, those in all, and by the last rows of metrics.json the seconds left and the speed."""
    folder = Path(stage.folder)
    try:
        rows = [json.loads(line) for line in _tail(folder / "metrics.json")]
        settings = _read_settings(folder / "config.yaml", (folder / "config.yaml").stat().st_mtime_ns)
        if stage.kind == "pretrain":
            return _pretraining_progress([row for row in rows if "images_per_second" in row], settings)
        if stage.kind == "finetune":
            return _fine_tuning_progress([row for row in rows if "time" in row], settings)
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):  # not there yet, or half-written
        pass
    return UNKNOWN


@functools.lru_cache(maxsize=256)
def _read_settings(path: Path, written: int) -> Any:
    """Read a YAML file, which takes long, once each time that it is `written`: the progress is read every second."""
    return yaml.safe_load(path.read_text())


def _pretraining_progress(rows: list[dict[str, Any]], settings: Any) -> Progress:
    if not rows:
        return UNKNOWN
    done, total = rows[-1]["step"], rows[-1]["steps"]
    speed = sum(row["images_per_second"] for row in rows) / len(rows)
    left = (total - done) * settings["optim"]["batch_size"] / speed if speed else None
    return done, total, left, f"{speed:.0f} images/s"


def _fine_tuning_progress(rows: list[dict[str, Any]], settings: Any) -> Progress:
    total = settings["SOLVER"]["MAX_ITER"]
    if not rows:
        return 0, total, None, ""
    done = rows[-1]["iteration"] + 1
    each = sum(row["time"] for row in rows) / len(rows)
    return done, total, (total - done) * each, f"{each:.2f} s/iteration"


def _tail(path: Path) -> list[str]:
    """Return the last whole lines of a file, which may be long."""
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - 65536))
        text = file.read().decode(errors="replace")
    return [line for line in text.split("\n")[:-1] if line.startswith("{") and line.endswith("}")][-_WINDOW:]
