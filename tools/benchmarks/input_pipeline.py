"""The input: what one core of a loader's worker makes of JPEGs, by each pipeline and by the published code."""

import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import torch
from rich.table import Table
from torch.utils.data import DataLoader

from pretrain.data import two_views
from pretrain.data.augment import recipe
from pretrain.data.images.image_set import open_images
from pretrain.data.loader import EpochLoader
from pretrain.data.sampler import EpochSampler

from . import published_input
from .arguments import InputSetup as Setup
from .interleave import Candidate, Numbers, OnProgress, run_interleaved
from .sample_images import images_or_made
from .summary import format_summary, summarize, summarize_quotients

PUBLISHED = "published"


class InputRunner:
    """A runner that times batches made in this process, by one thread."""

    def __init__(self, batches: Callable[[int], Iterable[Any]], setup: Setup) -> None:
        self.steps, self.images = -(-setup.number // setup.batch), setup.batch
        self.batches = endless(batches)
        torch.set_num_threads(1)
        cv2.setNumThreads(0)
        next(self.batches)

    def measure(self) -> Numbers:
        """Return the seconds an image, for two views of it."""
        begin = time.perf_counter()
        for _ in itertools.islice(self.batches, self.steps):
            pass
        return {"seconds": (time.perf_counter() - begin) / (self.steps * self.images)}

    def report(self) -> Numbers:
        """Return nothing else."""
        return {}


def endless(batches: Callable[[int], Iterable[Any]]) -> Iterator[Any]:
    """Yield the batches of one epoch after the other; `batches` gives those of an epoch by its number."""
    for epoch in itertools.count():
        yield from batches(epoch)


def make_published(setup: Setup, folder: Path) -> InputRunner:
    """Return the runner of the published input: PIL, torchvision, float32."""
    loader = published_loader(setup, folder, workers=0)
    return InputRunner(lambda epoch: loader, setup)


def make_ours(setup: Setup, folder: Path, pipeline: str) -> InputRunner:
    """Return the runner of what the workers of tools/train_moco.py do."""
    return InputRunner(our_loader(setup, folder, pipeline, workers=0).batches, setup)


def published_loader(setup: Setup, folder: Path, workers: int, pin_memory: bool = False) -> DataLoader:
    """Return the loader of the published code."""
    views = published_input.PublishedViews(
        open_images(str(folder)), published_input.recipe(setup.augmentation, setup.size)
    )
    return published_input.make_loader(views, setup.batch, workers, pin_memory)


def our_loader(setup: Setup, folder: Path, pipeline: str, workers: int, pin_memory: bool = False) -> EpochLoader:
    """Return the loader of tools/train_moco.py."""
    images = open_images(str(folder))
    sampler = EpochSampler(len(images), setup.batch, seed=0)
    views = two_views.TwoViews(images, recipe.recipe(setup.augmentation, setup.size), 0, pipeline)
    return EpochLoader(views, sampler, workers, pin_memory)


def measure(setup: Setup, on_progress: OnProgress) -> dict[str, Any]:
    """Return all that `tables` shows, for JSON."""
    with images_or_made(setup.images, max(setup.number, setup.batch)) as (folder, name):
        candidates = {PUBLISHED: Candidate(make_published, (setup, folder))}
        candidates |= {f"ours, {way}": Candidate(make_ours, (setup, folder, way)) for way in two_views.PIPELINES}
        outcomes = run_interleaved(candidates, setup.repeats, on_progress=on_progress)
    found = {}
    for way, outcome in outcomes.items():
        seconds = [one["seconds"] for one in outcome.rounds]
        found[way] = {
            "seconds": summarize(seconds),
            "images_per_second": 1 / summarize(seconds)["median"],
            "published / this": summarize_quotients([one["seconds"] for one in outcomes[PUBLISHED].rounds], seconds),
        }
    return {"setup": {**asdict(setup), "images": name}, "contenders": found}


def tables(found: dict[str, Any]) -> list[str | Table]:
    """Return what was measured, for a terminal."""
    setup = found["setup"]
    table = Table("pipeline", "ms an image", "images/s/core", "published / this")
    for way, one in found["contenders"].items():
        table.add_row(
            way,
            format_summary(one["seconds"], 2, 1000),
            f"{one['images_per_second']:.0f}",
            format_summary(one["published / this"]),
        )
    return [f"{setup['images']}: two {setup['augmentation']} views of {setup['size']} px, one core", table]
