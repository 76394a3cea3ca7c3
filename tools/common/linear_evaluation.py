"""The published linear evaluation of a pretrained backbone, from its options to linear_probe.json."""

import contextlib
import json
import logging
import math
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.logging import RichHandler
from rich.progress import Progress
from torch import Tensor, nn

from pretrain.checkpoints import moco_file
from pretrain.data.images import labelled_set
from pretrain.evaluation import features, linear_probe, probe_features
from pretrain.runtime import distributed, progress, provenance, run_folder, signals
from pretrain.runtime.errors import PretrainError, Stopped
from pretrain.runtime.files import file_sha256, whole_file
from pretrain.runtime.ranks import cores
from pretrain.runtime.signals import StopRequest
from transfer.weights.source import PretrainedFile

from . import checkpoint_cli, probe_folder
from .probe_folder import RESULT, LayerSaver

PUBLISHED = {"lr": 30.0, "epochs": 100, "milestones": [60, 80], "batch_size": 256, "image_size": 224}
OF_THE_MACHINE = ("checkpoint", "root", "output", "workers", "device")  # where things lie, and what computes
log = logging.getLogger("linear_probe")


@dataclass(frozen=True)
class Options:
    """The flags of tools/linear_probe.py, by their names; its --help explains each."""

    checkpoint: Path
    encoder: str | None
    prefix: str | None
    root: str
    output: Path
    fast: bool
    lr: float
    epochs: int
    milestones: list[int]
    batch_size: int  # images of a step, of all processes together
    image_size: int  # pixels
    workers: int
    device: str
    seed: int
    resume: bool = False
    auto_resume: bool = False

    @property
    def protocol(self) -> str:
        """The name of the evaluation whose numbers these options give."""
        return "fast (cached centre-crop features)" if self.fast else "published"

    def as_written(self) -> dict[str, Any]:
        """Return the options as the result lists them, paths as text; without those that say how to begin."""
        values = {name: value for name, value in asdict(self).items() if not name.endswith("resume")}
        return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}

    def kept(self) -> dict[str, Any]:
        """Return the options that a resumed probe must keep."""
        return {name: value for name, value in self.as_written().items() if name not in OF_THE_MACHINE}

    def departures(self) -> list[str]:
        """Return the settings that are not the published ones, a line each, for the reader of a result."""
        given = asdict(self)
        return [f"{name} {given[name]} instead of {value}" for name, value in PUBLISHED.items() if given[name] != value]

    def check(self) -> None:
        """Raise PretrainError for values out of range."""
        if self.resume and self.auto_resume:
            raise PretrainError("--resume and --auto-resume: give one of them")
        checkpoint_cli.check_flags(
            [
                ("--lr", self.lr, 1e-9),
                ("--epochs", self.epochs, 1),
                *(("--milestones", epoch, 0) for epoch in self.milestones),
                ("--batch-size", self.batch_size, 1),
                ("--image-size", self.image_size, 32),
                ("--workers", self.workers, 0),
                ("--seed", self.seed, 0),
            ]
        )


def evaluate_backbone(options: Options, device: torch.device, stop: StopRequest) -> bool:
    """Train the linear layer and write the result. All ranks call it; rank 0 writes and logs.

    Returns False where a signal asked it to stop and it has saved.
    """
    found, network = checkpoint_cli.load_backbone(options.checkpoint, options.encoder, options.prefix, device)
    train, val = distributed.on_main(lambda: labelled_set.open_train_and_val(options.root, "--root"))
    digests = {"train": train.images.digest, "val": val.images.digest}
    sha256 = distributed.on_main(lambda: file_sha256(options.checkpoint))
    run = {**options.kept(), "checkpoint_sha256": sha256, **digests}
    cores.share_cores(device, options.workers, distributed.local_world_size())
    if options.workers:
        signals.shield_workers()
    log.disabled = not distributed.is_main()
    with contextlib.ExitStack() as stack:
        distributed.on_main(lambda: stack.enter_context(run_folder.locked(options.output)))
        resumes = options.resume or options.auto_resume
        if distributed.on_main(lambda: resumes and probe_folder.finished(options.output, run)):
            if distributed.is_main():
                print(f"{options.output / RESULT}: the probe is finished already")
            return True
        path, notices = distributed.on_main(
            lambda: probe_folder.find_start(options.output, options.resume, options.auto_resume)
        )
        state, done = probe_folder.read_state(path, run) if path else (None, 0)
        stack.enter_context(_logging_to(options.output))
        _log_start(options, found, train, val, notices)
        if state:
            log.info(f"resumed from {path}, after {done} steps")
        steps = -(-len(train.images) // options.batch_size)
        layers = LayerSaver(options.output, found.architecture.name, run, options.epochs, steps, done if state else -1)
        stack.callback(layers.close)
        try:
            outcome = _train_layer(options, device, network, train, val, layers, state, stop)
        except Stopped as where:
            names = signals.names_on_all_ranks(stop)
            log.warning(f"stopped by {names} {where}; the same command with --auto-resume continues it")
            return False
        if distributed.is_main():
            data = {"images": {"train": len(train.images), "val": len(val.images)}, "classes": len(train.classes)}
            _write_result(options, device, found, {**data, "digests": digests, "checkpoint_sha256": sha256}, outcome)
    return True


def _write_result(
    options: Options, device: torch.device, found: PretrainedFile, given: dict[str, Any], outcome: "_Outcome"
) -> None:
    """Write linear_probe.json and log what it says. `given`: what is known of the data and of the checkpoint."""
    result = {
        "top1": outcome.rows[-1]["top1"],
        "top5": outcome.rows[-1]["top5"],
        "protocol": options.protocol,
        "departures": [*options.departures(), *outcome.left_out],
        "warnings": doubts(outcome.rows[-1]["loss"], given["classes"]),
        "checkpoint": str(options.checkpoint),
        "arch": found.architecture.name,
        "pretrain_epochs": found.epoch,
        **given,
        "layer": moco_file.file_name(options.epochs - 1),
        "settings": options.as_written(),
        "environment": provenance.describe_environment(device, options.seed),
        "epochs": outcome.rows,
    }
    with whole_file(options.output / RESULT) as file:
        file.write(json.dumps(result, indent=2).encode() + b"\n")
    for warning in result["warnings"]:
        log.warning(f"warning: {warning}")
    log.info(
        f"top-1 {result['top1']:.2%}, top-5 {result['top5']:.2%}, protocol {result['protocol']}; "
        f"written to {options.output / RESULT}"
    )


def doubts(loss: float, classes: int) -> list[str]:
    """Return what makes the accuracies doubtful, a sentence each: a loss at the end that guessing would have beaten."""
    guessing = math.log(classes)
    if loss <= guessing:
        return []
    return [
        f"the layer ended at a loss of {loss:.4g}, and guessing among {classes} classes has {guessing:.2f}: the rate "
        "was too high for these features, and the accuracies say little of the backbone; try a tenth of it (--lr)"
    ]


def _log_start(
    options: Options,
    found: PretrainedFile,
    train: labelled_set.LabelledImages,
    val: labelled_set.LabelledImages,
    notices: list[str],
) -> None:
    log.info(f"{options.checkpoint}: {found.architecture.name}, {found.epoch or 'unknown'} epochs of pretraining")
    log.info(f"{len(train.images)} images to train on, {len(val.images)} to test, {len(train.classes)} classes")
    log.info(f"protocol: {options.protocol}")
    for departure in options.departures():
        log.warning(f"not as published: {departure}")
    for notice in notices:
        log.warning(f"warning: {notice}")


class _Outcome(NamedTuple):
    """The rows of all epochs, and a line on each part of which broken images were left out."""

    rows: list[dict[str, Any]]
    left_out: list[str]


def _train_layer(
    options: Options,
    device: torch.device,
    network: nn.Module,
    train: labelled_set.LabelledImages,
    val: labelled_set.LabelledImages,
    layers: LayerSaver,
    state: dict[str, Any] | None,
    stop: StopRequest,
) -> _Outcome:
    """Train the layer (see `linear_probe.train_layer`), with a progress bar meanwhile."""
    source: probe_features.FeatureSource
    with checkpoint_cli.image_progress() as bar:
        extract = _Extraction(network, options, device, bar, stop)
        val_features, val_labels = extract(val, "val")
        if options.fast:
            own = extract(train, "train")  # (n, C) and (n,)
            rows, labels = (torch.cat(distributed.all_gather_object(part)) for part in own)  # (N, C) and (N,)
            source = probe_features.Cached(rows, labels, device, options.batch_size, options.seed)
        else:
            size, workers = options.image_size, options.workers
            source = probe_features.Crops(network, train, device, size, options.batch_size, workers, options.seed)
        display = _Display(bar, options.epochs, len(train.images))
        rows_of_epochs = linear_probe.train_layer(
            source,
            val_features,
            val_labels,
            len(train.classes),
            device,
            options.lr,
            options.epochs,
            options.milestones,
            options.seed,
            display.step,
            display.epoch,
            layers.save,
            state,
            stop,
        )
        lost = {**extract.lost, **({"train": len(source.broken)} if source.broken else {})}
        return _Outcome(rows_of_epochs, [f"{n} images of {part} cannot be read, left out" for part, n in lost.items()])


class _Extraction:
    """The features of the readable images of a part: a call gives this rank's share of them and their labels.

    Attributes:
        lost: the number of broken images by part, where there are any.
    """

    def __init__(
        self, network: nn.Module, options: Options, device: torch.device, bar: Progress, stop: StopRequest
    ) -> None:
        self.network, self.options, self.device, self.bar, self.stop = network, options, device, bar, stop
        self.lost: dict[str, int] = {}

    def __call__(self, part: labelled_set.LabelledImages, name: str) -> tuple[Tensor, Tensor]:
        """Return features (n, C) and labels (n,). Raises PretrainError for too many broken images."""
        task, world = (
            self.bar.add_task(f"features of {name}", total=len(part.images), state=""),
            distributed.world_size(),
        )
        own_broken: list[int] = []
        rows = features.extract_own_share(
            self.network,
            part.images,
            self.device,
            self.options.image_size,
            workers=self.options.workers,
            on_batch=lambda images: self.bar.advance(task, images * world),
            stop=self.stop,
            broken=own_broken,
        )
        broken = set[int]().union(*distributed.all_gather_object(own_broken))
        probe_features.refuse_broken(name, part.images, broken)
        for index in sorted(broken):
            log.warning(f"warning: {name}: {part.images.name(index)} cannot be read and is left out")
        if broken:
            self.lost[name] = len(broken)
        own = features.share_of_rank(len(part.images))
        kept = [row for row, index in enumerate(own) if index not in broken]
        return rows[kept], part.labels[own.start : own.stop][kept]


class _Display:
    """The progress of the training: the bar after a step, a line of the log after an epoch."""

    def __init__(self, bar: Progress, epochs: int, images: int) -> None:
        self.bar, self.epochs = bar, epochs
        self.task = bar.add_task("training", total=epochs * images, state="")

    def step(self, images: int, loss: Tensor, accuracy: Tensor) -> None:
        self.bar.advance(self.task, images * distributed.world_size())
        if not self.bar.disable:
            self.bar.update(self.task, state=f"loss {loss:.3f} acc {accuracy:.0%}")

    def epoch(self, row: dict[str, Any]) -> None:
        log.info(
            f"epoch {row['epoch']}/{self.epochs - 1}  lr {row['lr']:g}  loss {row['loss']:.4f}  "
            f"train top-1 {row['train_top1']:.2%}  val top-1 {row['top1']:.2%}  top-5 {row['top5']:.2%}"
        )


def _logging_to(folder: Path) -> contextlib.AbstractContextManager[None]:
    """Let rank 0 log to the folder's log.txt and to the terminal, there above the bar."""
    if not distributed.is_main():
        return contextlib.nullcontext()
    terminal = progress.console.is_terminal
    handler = (
        RichHandler(console=progress.console, show_path=False, show_level=False, log_time_format="%X")
        if terminal
        else None
    )
    return run_folder.logging_to(folder, log, handler or logging.StreamHandler(sys.stderr))
