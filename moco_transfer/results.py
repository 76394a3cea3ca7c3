"""The results of the functions, read from the files that a run leaves in its folder."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Pretraining:
    """A finished pretraining.

    Attributes:
        folder: of the run.
        checkpoint: its last checkpoint, which `convert_backbone` takes.
        sha256: of that file.
        epochs: how many the run has done.
        metrics: the last line of training in metrics.json: loss, contrast_accuracy, feature_std, ...
        knn_top1: the last accuracy of the nearest neighbours, 0 to 1; None where it was not measured (knn.root).
        history: all lines of metrics.json.
    """

    folder: Path
    checkpoint: Path
    sha256: str
    epochs: int
    metrics: Mapping[str, Any]
    knn_top1: float | None
    history: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class Backbone:
    """A converted backbone.

    Attributes:
        path: of the file.
        sha256: of the file.
        arch: "resnet50".
        label: the name of its rows in a report.
        method: that trained it; None where the source does not tell.
        difference: the greatest of its feature maps from the source's, relative to their range.
        metadata: all that the file says about itself (docs/reference/formats.md).
    """

    path: Path
    sha256: str
    arch: str
    label: str
    method: str | None
    difference: float
    metadata: Mapping[str, Any]


@dataclass(frozen=True)
class Trial:
    """One fine-tuned and evaluated model.

    Attributes:
        folder: of the run.
        weights: the model, model_final.pth.
        seed: of the trial.
        metrics: AP (mIoU) in points, 0 to 100, by what was scored: {"bbox": {"AP": 40.1, ...}}; None: undefined.
        per_class: the AP of each class, likewise.
        remarks: what a reader of the numbers must know.
        result: all of result.json (docs/reference/formats.md).
    """

    folder: Path
    weights: Path
    seed: int
    metrics: Mapping[str, Mapping[str, float | None]]
    per_class: Mapping[str, Mapping[str, float | None]]
    remarks: tuple[str, ...]
    result: Mapping[str, Any]


@dataclass(frozen=True)
class FineTuning:
    """The trials of one start: the same but for their seeds.

    Attributes:
        folder: that the folders of the trials lie in, which `write_report` takes.
        init: the label of the initialization, the name of its row in a report.
        init_sha256: of the file of the initialization; None for random weights.
        engine: "torchvision" or "detectron2".
        trials: in the order of their seeds.
    """

    folder: Path
    init: str
    init_sha256: str | None
    engine: str
    trials: tuple[Trial, ...]

    def points(self, name: str = "AP", of: str = "bbox") -> tuple[float | None, ...]:
        """Return a metric of each trial: points from 0 to 100, None where it is undefined.

        Args:
            name: of the metric, such as "AP50".
            of: what was scored: "bbox", "segm", "keypoints", "sem_seg".

        Raises:
            KeyError: it was not scored; the text names what was.
        """
        for trial in self.trials:
            if name not in trial.metrics.get(of, {}):
                known = [f"{part} {key}" for part, points in trial.metrics.items() for key in points]
                raise KeyError(f"{of} {name} is not in {trial.folder}/result.json, which has {', '.join(known)}")
        return tuple(trial.metrics[of][name] for trial in self.trials)


@dataclass(frozen=True)
class Report:
    """A report of finished runs.

    Attributes:
        folder: of all its files.
        page: index.html, one file to open or to mail.
        summary: what came out, in sentences.
        warnings: what makes the runs hard to compare.
        tables: those of report.json: title, rows with n and scores, differences with their intervals, ...
    """

    folder: Path
    page: Path
    summary: tuple[str, ...]
    warnings: tuple[str, ...]
    tables: tuple[Mapping[str, Any], ...]


def read_pretraining(folder: Path) -> Pretraining:
    """Read the folder of a finished pretraining."""
    checkpoint = folder / (folder / "last_checkpoint").read_text(encoding="utf-8").strip()
    manifest = _read_json(checkpoint.with_name(f"{checkpoint.name}.json"))
    lines = (folder / "metrics.json").read_text(encoding="utf-8").splitlines()
    history = tuple(json.loads(line) for line in lines)
    return Pretraining(
        folder=folder,
        checkpoint=checkpoint,
        sha256=manifest["sha256"],
        epochs=manifest["epoch"],
        metrics=next((row for row in reversed(history) if "loss" in row), {}),
        knn_top1=next((row["knn_top1"] for row in reversed(history) if "knn_top1" in row), None),
        history=history,
    )


def read_conversion(account: Path) -> Backbone:
    """Read the account of a conversion, which the command writes with --json."""
    content = _read_json(account)
    metadata = content["metadata"]
    return Backbone(
        path=Path(content["file"]),
        sha256=content["sha256"],
        arch=metadata["arch"],
        label=metadata["label"],
        method=metadata.get("method"),
        difference=metadata["proof"]["difference"],
        metadata=metadata,
    )


def read_fine_tuning(folder: Path, trials: int) -> FineTuning:
    """Read the finished trials 0 to `trials` - 1 in a folder."""
    found = tuple(_read_trial(folder / f"trial_{number}") for number in range(trials))
    init, engine = found[0].result["init"], found[0].result["engine"]
    return FineTuning(folder, init["label"], init["sha256"], engine["name"], found)


def read_report(folder: Path) -> Report:
    """Read the numbers of a report."""
    content = _read_json(folder / "report.json")
    sentences = tuple(" ".join(filter(None, (one["first"], one["more"]))) for one in content["summary"])
    return Report(folder, folder / "index.html", sentences, tuple(content["warnings"]), tuple(content["tables"]))


def _read_trial(folder: Path) -> Trial:
    result = _read_json(folder / "result.json")
    return Trial(
        folder=folder,
        weights=folder / "model_final.pth",
        seed=result["seed"],
        metrics=result["metrics"],
        per_class=result["per_class"],
        remarks=tuple(result["remarks"]),
        result=result,
    )


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
