"""The whole training, loader and step: the published code against ours with each of its pipelines."""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from torch import Tensor
from torch.profiler import record_function

from pretrain.data import two_views
from pretrain.data.loader import DevicePrefetch
from pretrain.runtime import distributed, seeds

from . import input_pipeline, step_profile, training_step
from .interleave import Contender, Numbers, Tell, take_turns
from .measure import quotient, spread, text
from .sample_images import images_or_made

PUBLISHED = "published"


@dataclass(frozen=True)
class Setup(training_step.Setup):
    """What all contenders do, one process each."""

    images: Path | None = None  # a folder; None: made
    augmentation: str = "v2"
    workers: int = 1
    processes: int = field(default=1, init=False)

    def input(self, folder: Path) -> input_pipeline.Setup:
        """The same for the input alone."""
        number = self.batch * self.steps
        return input_pipeline.Setup(folder, self.augmentation, self.size, self.batch, number, self.repeats)


class TrainingRunner:
    """Times training from the loader on; the one process of a contender.

    Args:
        batches: of the loader, without an end.
        train_on: one step on a batch.
    """

    def __init__(self, batches: Iterator[Any], train_on: Callable[[Any], object], setup: Setup) -> None:
        self.batches, self.train_on, self.setup = batches, train_on, setup
        self.on_gpu = distributed.select_device(setup.device).type == "cuda"

    def turn(self) -> Numbers:
        """Seconds a step, of these the seconds of waiting for data, and the seconds of a step on data that is there."""
        for _ in range(2 * self.setup.workers + 1):  # what the workers have made while the others had their turn
            batch, _ = self._wait()
            self.train_on(batch)
        self._all_done()
        waiting, begin = 0.0, time.perf_counter()
        for _ in range(self.setup.steps):
            batch, waited = self._wait()
            waiting += waited
            self.train_on(batch)
        self._all_done()
        end = time.perf_counter()
        for _ in range(self.setup.steps):
            self.train_on(batch)
        self._all_done()
        alone = time.perf_counter() - end
        steps = self.setup.steps
        return {"seconds": (end - begin) / steps, "waiting": waiting / steps, "step_alone": alone / steps}

    def report(self) -> Numbers:
        """The shares of the parts."""
        return {"shares": step_profile.shares(lambda: self.train_on(self._wait()[0]), self.setup.steps, self.on_gpu)}

    def _wait(self) -> tuple[Any, float]:
        begin = time.perf_counter()
        with record_function("wait for data"):
            batch = next(self.batches)
        return batch, time.perf_counter() - begin

    def _all_done(self) -> None:
        if self.on_gpu:
            torch.cuda.synchronize()


def make_published(setup: Setup, folder: Path) -> TrainingRunner:
    """The formulation of 2020 and its loader."""
    device, _ = training_step.prepare(setup, setup.workers)
    step = training_step.published_step(setup, device)
    on_gpu = device.type == "cuda"
    loader = input_pipeline.published_loader(setup.input(folder), folder, setup.workers, pin_memory=on_gpu)

    def train_on(batch: list[Tensor]) -> None:
        query, key = (views.to(device, non_blocking=True) for views in batch)
        step(query, key)

    return TrainingRunner(input_pipeline.endless(loader, lambda: None), train_on, setup)


def make_ours(setup: Setup, folder: Path, pipeline: str) -> TrainingRunner:
    """What tools/train_moco.py does."""
    device, _ = training_step.prepare(setup, setup.workers)
    step, prefetch = training_step.our_step(setup, device), DevicePrefetch(device, setup.channels_last)
    on_gpu = device.type == "cuda"
    loader, sampler = input_pipeline.our_loader(setup.input(folder), folder, pipeline, setup.workers, on_gpu)

    def next_epoch() -> None:
        sampler.epoch += 1

    def train_on(batch: two_views.Batch) -> None:
        query, key = prefetch(batch)
        step(query, key, batch.asked, [seeds.generator("step", 0)])

    return TrainingRunner(input_pipeline.endless(loader, next_epoch), train_on, setup)


def measure(setup: Setup, tell: Tell) -> dict[str, Any]:
    """All that `tables` shows, for JSON."""
    setup.check()
    with images_or_made(setup.images, max(setup.batch * setup.steps, setup.batch)) as (folder, name):
        contenders = {PUBLISHED: Contender(make_published, (setup, folder))}
        contenders |= {f"ours, {way}": Contender(make_ours, (setup, folder, way)) for way in two_views.PIPELINES}
        outcomes = take_turns(contenders, setup.repeats, device=setup.device, tell=tell)
        cores = input_pipeline.measure(setup.input(folder), lambda said, done, of: tell(f"one core, {said}", done, of))
    found = {}
    for way, outcome in outcomes.items():
        seconds, waiting, alone = (
            [turn[key] for turn in outcome.turns] for key in ("seconds", "waiting", "step_alone")
        )
        core_rate = cores["contenders"][way]["images_per_second"]
        step_rate = setup.batch / spread(alone)["median"]
        found[way] = {
            "seconds": spread(seconds),
            "images_per_second": setup.batch / spread(seconds)["median"],
            "published / this": quotient([turn["seconds"] for turn in outcomes[PUBLISHED].turns], seconds),
            "waiting": quotient(waiting, seconds),
            "step_alone_images_per_second": step_rate,
            "core_images_per_second": core_rate,
            "cores_needed": step_rate / core_rate,
            "shares": outcome.report["shares"],
        }
    return {"setup": {**asdict(setup), "images": name}, "contenders": found}


def tables(found: dict[str, Any]) -> list[str | Table]:
    """What was measured, for a terminal."""
    setup = found["setup"]
    table = Table("", "images/s", "published / this", "waiting for data", "step alone", "a core", "cores needed")
    for way, one in found["contenders"].items():
        table.add_row(
            way,
            f"{one['images_per_second']:.1f}",
            text(one["published / this"]),
            f"{one['waiting']['median']:.1%}",
            f"{one['step_alone_images_per_second']:.1f}",
            f"{one['core_images_per_second']:.1f}",
            f"{one['cores_needed']:.2f}",
        )
    title = f"{setup['images']}; {setup['workers']} workers; {training_step.title(setup)}"
    return [title, table, training_step.parts_table(found["contenders"])]
