"""The run folders of a report: finding them, and reading their curves."""

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from transfer import results
from transfer.errors import TransferError, refuse
from transfer.evaluation.kinds import evaluation_of
from transfer.report.tables import FinishedRun

METRICS_FILE = "metrics.json"
_ENVIRONMENT = "env.json"  # written when a run begins; a fine-tuning run has "init" in it

Curve = dict[int, float]  # iteration -> value


def read_runs(folders: Sequence[Path]) -> list[FinishedRun]:
    """Read every finished run: each folder is a run's, or holds such folders at any depth.

    Raises:
        TransferError: lists every folder without a result, every unfinished run, and every faulty result.json.
    """
    faults: list[str] = []
    runs: dict[Path, FinishedRun] = {}
    for folder in folders:
        found = _finished(folder, faults)
        for path in found:
            try:
                result = results.read_result(path)
                evaluation_of(result.task.kind)
                runs.setdefault(path.resolve(), FinishedRun(path.parent, result))
            except TransferError as error:
                faults.append(str(error))
    refuse(faults)
    return list(runs.values())


def _finished(folder: Path, faults: list[str]) -> list[Path]:
    if not folder.is_dir():
        faults.append(f"{folder}: no such folder" if not folder.exists() else f"{folder}: is not the folder of a run")
        return []
    if (folder / results.FILE_NAME).is_file():
        return [folder / results.FILE_NAME]
    begun = [path.parent for path in sorted(folder.rglob(_ENVIRONMENT)) if _is_fine_tuning(path)]
    begun = [path for path in begun if not path.name.startswith(results.EVALUATED)]
    unfinished = [path for path in begun if not (path / results.FILE_NAME).is_file()]
    faults += [
        f"{path}: has no {results.FILE_NAME}, the run is not finished: resume it with --resume, or with its "
        "--trials command, or leave it out"
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


def read_curves(run: FinishedRun) -> dict[str, Curve]:
    """Read every scalar of a run's metrics.json, by name; empty if there is no such file (--eval-only writes none).

    A line that a kill cut short is skipped; where iterations repeat after a resume, the later line counts.
    """
    try:
        lines = (run.folder / METRICS_FILE).read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return {}
    curves: dict[str, Curve] = {}
    for metrics in filter(None, map(_read_metrics, lines)):
        iteration = int(metrics.pop("iteration"))
        for name, value in metrics.items():
            curves.setdefault(name, {})[iteration] = value
    return curves


def _read_metrics(line: str) -> dict[str, float] | None:
    try:
        content = json.loads(line)
    except ValueError:
        return None
    if not isinstance(content, dict):
        return None
    metrics = {key: x for key, x in content.items() if isinstance(x, (int, float)) and math.isfinite(x)}
    return metrics if "iteration" in metrics else None


def over_trials(curves: Iterable[Curve]) -> list[tuple[int, list[float]]]:
    """Return the iterations that every trial recorded, each with the trials' values."""
    trials = list(curves)
    shared = set.intersection(*(set(curve) for curve in trials)) if trials else set()
    return [(iteration, [curve[iteration] for curve in trials]) for iteration in sorted(shared)]
