"""The whole training, loader and step, each as its users start it: the published code against our pipelines.

The published code gets all cores' threads, a loader worker beside them and the C library's own way with memory; ours
gets what tools/train_moco.py chooses.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from torch import Tensor
from torch.profiler import record_function

from pretrain.data import two_views
from pretrain.data.augment.gpu import augment_batch
from pretrain.data.loader import DevicePrefetch
from pretrain.engine import kernels
from pretrain.runtime import distributed, seeds
from pretrain.runtime.ranks import cores

from . import input_pipeline, step_profile, training_step
from .arguments import EndToEndSetup as Setup
from .interleave import Candidate, Numbers, OnProgress, run_interleaved
from .sample_images import images_or_made
from .summary import format_summary, summarize, summarize_quotients

PUBLISHED = "published"


class TrainingRunner:
    """A runner that times training with its loader, in the one process of a candidate.

    Args:
        batches: of the loader, without an end.
        train_on: one step on a batch.
        workers: of its loader.
    """

    def __init__(self, batches: Iterator[Any], train_on: Callable[[Any], object], setup: Setup, workers: int) -> None:
        self.batches, self.train_on, self.setup, self.workers = batches, train_on, setup, workers
        self.on_gpu = distributed.select_device(setup.device).type == "cuda"

    def measure(self) -> Numbers:
        """Return the seconds a step, those of them spent waiting for data, and those of a step whose data is ready."""
        for _ in range(2 * self.workers + 1):  # what the workers have made while the others worked
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
    """Return the runner of the formulation of 2020 with its loader."""
    device, _ = training_step.prepare(setup, setup.published_precision, malloc="default")
    step = training_step.published_step(setup, device)
    on_gpu = device.type == "cuda"
    loader = input_pipeline.published_loader(setup.input(folder), folder, setup.workers, pin_memory=on_gpu)

    def train_on(batch: list[Tensor]) -> None:
        query, key = (views.to(device, non_blocking=True) for views in batch)
        step(query, key)

    return TrainingRunner(input_pipeline.endless(lambda epoch: loader), train_on, setup, setup.workers)


def make_ours(setup: Setup, folder: Path, pipeline: str) -> TrainingRunner:
    """Return the runner of what tools/train_moco.py does."""
    workers = cores.loader_workers(distributed.select_device(setup.device), "auto", processes=1)
    device, _ = training_step.prepare(setup, setup.precision, workers)
    compiled = setup.kernels == "compile" and pipeline == "device"
    augment = kernels.compile_exactly(augment_batch) if compiled else augment_batch
    step, prefetch = training_step.our_step(setup, device), DevicePrefetch(device, setup.channels_last, augment)
    on_gpu = device.type == "cuda"
    loader = input_pipeline.our_loader(setup.input(folder), folder, pipeline, workers, on_gpu)

    def train_on(batch: two_views.Batch) -> None:
        query, key = prefetch(batch)
        step(query, key, batch.requested, [seeds.generator("step", 0)])

    return TrainingRunner(input_pipeline.endless(loader.batches), train_on, setup, workers)


def measure(setup: Setup, on_progress: OnProgress) -> dict[str, Any]:
    """Return all that `tables` shows, for JSON."""
    setup.check()
    training_step.check_kernels(setup)
    with images_or_made(setup.images, max(setup.batch * setup.steps, setup.batch)) as (folder, name):
        candidates = {PUBLISHED: Candidate(make_published, (setup, folder))}
        candidates |= {f"ours, {way}": Candidate(make_ours, (setup, folder, way)) for way in two_views.PIPELINES}
        outcomes = run_interleaved(candidates, setup.repeats, device=setup.device, on_progress=on_progress)
        cores = input_pipeline.measure(
            setup.input(folder), lambda piece, done, of: on_progress(f"one core, {piece}", done, of)
        )
    found = {}
    for way, outcome in outcomes.items():
        seconds, waiting, alone = ([one[key] for one in outcome.rounds] for key in ("seconds", "waiting", "step_alone"))
        core_rate = cores["contenders"][way]["images_per_second"]
        step_rate = setup.batch / summarize(alone)["median"]
        found[way] = {
            "seconds": summarize(seconds),
            "images_per_second": setup.batch / summarize(seconds)["median"],
            "published / this": summarize_quotients([one["seconds"] for one in outcomes[PUBLISHED].rounds], seconds),
            "waiting": summarize_quotients(waiting, seconds),
            "step_alone_images_per_second": step_rate,
            "core_images_per_second": core_rate,
            "cores_needed": step_rate / core_rate,
            "shares": outcome.report["shares"],
        }
    return {"setup": {**asdict(setup), "images": name}, "contenders": found}


def tables(found: dict[str, Any]) -> list[str | Table]:
    """Return what was measured, for a terminal."""
    setup = found["setup"]
    table = Table("", "images/s", "published / this", "waiting for data", "step alone", "a core", "cores needed")
    for way, one in found["contenders"].items():
        table.add_row(
            way,
            f"{one['images_per_second']:.1f}",
            format_summary(one["published / this"]),
            f"{one['waiting']['median']:.1%}",
            f"{one['step_alone_images_per_second']:.1f}",
            f"{one['core_images_per_second']:.1f}",
            f"{one['cores_needed']:.2f}",
        )
    title = f"{setup['images']}; published: {setup['workers']} workers; {training_step.title(setup)}"
    return [title, table, training_step.parts_table(found["contenders"])]
