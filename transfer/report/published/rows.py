"""The published rows of the recipes that configs/transfer/ repeats, read from rows.yaml."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from transfer.report.published.data import published_differences
from transfer.results import Task

_FILE = Path(__file__).with_name("rows.yaml")
_BATCH = 16  # images an iteration, of every recipe of the papers
_AP = ("AP", "AP50", "AP75")
_METRICS = {"bbox": _AP, "segm": _AP, "keypoints": _AP, "densepose_gps": _AP, "sem_seg": ("mIoU",)}  # by part


@dataclass(frozen=True)
class PublishedRow:
    """A published row. `scores`: "bbox/AP" -> AP points as the source prints them; `source`: paper and table."""

    label: str
    scores: dict[str, float]
    source: str


@dataclass(frozen=True)
class Recipe:
    """A published experiment.

    `batch`: images an iteration; `trials`: the runs that each row is the mean of, None where the source is silent.
    """

    name: str
    title: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    iterations: int
    batch: int
    trials: int | None
    rows: tuple[PublishedRow, ...]

    def differences(self, task: Task, iterations: int, batch: int | None) -> list[str]:
        """Describe how a run of this name differs from the recipe, as "iterations 400, published 24000".

        Args:
            iterations, batch: those that the run has on as many GPUs as the recipe; a batch of None is not compared.
        """
        pairs = {
            "training sets": (", ".join(task.train), ", ".join(self.train)),
            "test sets": (", ".join(task.test), ", ".join(self.test)),
            "iterations": (iterations, self.iterations),
            "images a batch": (self.batch if batch is None else batch, self.batch),
        }
        found = [f"{what} {ours}, published {theirs}" for what, (ours, theirs) in pairs.items() if ours != theirs]
        return [*found, *published_differences(task)]


def find_recipe(config_file: str | None) -> Recipe | None:
    """Return the recipe that a configuration file is named after, or None."""
    return published_recipes().get(Path(config_file).stem) if config_file else None


@cache
def published_recipes() -> dict[str, Recipe]:
    """Read every published recipe, by the name of its configuration."""
    content = yaml.safe_load(_FILE.read_text(encoding="utf-8"))
    return {
        name: Recipe(
            name=name,
            title=entry["title"],
            train=tuple(entry["train"]),
            test=tuple(entry["test"]),
            iterations=entry["iterations"],
            batch=entry.get("batch", _BATCH),
            trials=entry.get("trials"),
            rows=tuple(
                PublishedRow(
                    row["label"],
                    {
                        f"{part}/{metric}": float(value)
                        for part, metrics in _METRICS.items()
                        for metric, value in zip(metrics, row.get(part, ()), strict=False)
                    },
                    row["source"],
                )
                for row in entry["rows"]
            ),
        )
        for name, entry in content.items()
    }
