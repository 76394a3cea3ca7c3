"""The run folders of a report: finding them, and reading the curves that they hold."""

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from transfer import results
from transfer.errors import TransferError
from transfer.faults import refuse
from transfer.report.tables import Run

METRICS_FILE = "metrics.json"
_BEGUN = "env.json"  # written when a run begins; with "init" in it where it is a fine-tuning run

Curve = dict[int, float]  # iteration -> value


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Read every finished run: each folder is one, or holds some at any depth.

    Raises:
        TransferError: every folder without a result, every run begun and not finished, every faulty result.json.
    """
    faults: list[str] = []
    runs: dict[Path, Run] = {}
    for folder in folders:
        found = _finished(folder, faults)
        for path in found:
            try:
                runs.setdefault(path.resolve(), Run(path.parent, results.read(path)))
            except TransferError as error:
                faults.append(str(error))
    refuse(faults)
    return list(runs.values())


def _finished(folder: Path, faults: list[str]) -> list[Path]:
    if not folder.is_dir():
        faults.append(f"{folder}: no such folder" if not folder.exists() else f"{folder}: is no folder of a run")
        return []
    if (folder / results.FILE_NAME).is_file():
        return [folder / results.FILE_NAME]
    begun = [path.parent for path in sorted(folder.rglob(_BEGUN)) if _is_fine_tuning(path)]
    unfinished = [path for path in begun if not (path / results.FILE_NAME).is_file()]
    faults += [
        f"{path}: has no {results.FILE_NAME}, the run is not finished: go on with --resume, or its --trials command, "
        "or leave it out"
        for path in unfinished
    ]
    found = sorted(folder.rglob(results.FILE_NAME))
    if not found and not unfinished:
        faults.append(f"{folder}: has no {results.FILE_NAME}, nor has any folder in it; name runs of tools/finetune.py")
    return found


def _is_fine_tuning(environment: Path) -> bool:
    try:
        content = json.loads(environment.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and "init" in content


def read_curves(run: Run) -> dict[str, Curve]:
    """Every scalar of a run's metrics.json by name; empty where there is no such file (--eval-only writes none).

    A line that a kill cut short is passed over; where iterations repeat after a resume, the later line counts.
    """
    try:
        lines = (run.folder / METRICS_FILE).read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return {}
    curves: dict[str, Curve] = {}
    for row in filter(None, map(_row, lines)):
        iteration = int(row.pop("iteration"))
        for name, value in row.items():
            curves.setdefault(name, {})[iteration] = value
    return curves


def _row(line: str) -> dict[str, float] | None:
    try:
        content = json.loads(line)
    except ValueError:
        return None
    if not isinstance(content, dict):
        return None
    row = {key: value for key, value in content.items() if isinstance(value, (int, float)) and math.isfinite(value)}
    return row if "iteration" in row else None


def over_trials(curves: Iterable[Curve]) -> list[tuple[int, list[float]]]:
    """The iterations that every trial recorded, each with the trials' values."""
    trials = list(curves)
    shared = set.intersection(*(set(curve) for curve in trials)) if trials else set()
    return [(iteration, [curve[iteration] for curve in trials]) for iteration in sorted(shared)]
