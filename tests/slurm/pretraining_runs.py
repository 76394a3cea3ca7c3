"""The pretraining runs of a module of tests: on one SLURM, of the same images, below one folder."""

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.slurm import runs
from tests.slurm.cluster import Cluster
from tests.slurm.runs import BESIDE_OTHERS
from tests.support.waiting import outcomes, wait_until

HELD = ROOT / "tests/slurm/held.yaml"


@dataclass(frozen=True)
class PretrainingRuns:
    """Where the runs are made: a SLURM, the images, a folder of runs."""

    cluster: Cluster
    images: Path
    folder: Path
    jobs: dict[str, str] = field(default_factory=dict)  # of the runs, by name

    def run(self, name: str) -> Path:
        return self.folder / name

    def submit(self, name: str, *words: object, resources: Path = HELD) -> str:
        """Submit a run by its name; returns its job, which is free to start only now."""
        job = self.submit_held(name, *words, resources=resources)
        self.cluster.run("scontrol", "release", job)
        return job

    def submit_held(self, name: str, *words: object, epochs: int = runs.EPOCHS, resources: Path = HELD) -> str:
        """Submit a run by its name; returns its job, which waits for its release."""
        given = ("pretrain", "--resources", resources, *words)
        settings = runs.pretraining(self.images, self.run(name), epochs)
        self.jobs[name] = runs.submit(self.cluster, *given, *settings)["pretrain"]
        return self.jobs[name]

    def completed(self, job: str) -> None:
        self.cluster.wait(job, ["COMPLETED"], BESIDE_OTHERS)

    def events(self, name: str) -> list[dict[str, Any]]:
        path = self.run(name) / "launch/attempts/pretrain.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def await_start(self, name: str, number: int) -> None:
        wait_until(
            lambda: outcomes(self.run(name), "pretrain").count("start") == number, f"attempt {number}", BESIDE_OTHERS
        )


@contextlib.contextmanager
def narrow_pretraining(cluster: Cluster, images: Path, folder: Path) -> Iterator[PretrainingRuns]:
    """Runs that train a narrow network: the arithmetic is not what is disturbed. Pipelines have the full one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT / "tests/slurm/narrow"), prepend=os.pathsep)
        yield PretrainingRuns(cluster, images, folder)
