"""The published linear evaluation of a pretrained backbone, from its options to linear_probe.json."""

import contextlib
import json
import logging
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.logging import RichHandler
from rich.progress import Progress
from torch import Tensor, nn

from pretrain.data.images import labelled_set
from pretrain.evaluation import features, linear_probe, probe_features
from pretrain.runtime import distributed, progress, provenance, run_folder
from pretrain.runtime.errors import PretrainError
from pretrain.runtime.files import file_sha256, whole_file

from . import checkpoint_cli

RESULT = "linear_probe.json"
PUBLISHED = {"lr": 30.0, "epochs": 100, "milestones": [60, 80], "batch_size": 256, "image_size": 224}
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

    @property
    def protocol(self) -> str:
        """The name of the evaluation whose numbers these options give."""
        return "fast (cached centre-crop features)" if self.fast else "published"

    def as_written(self) -> dict[str, Any]:
        """Return the options as the result lists them, paths as text."""
        return {name: str(value) if isinstance(value, Path) else value for name, value in asdict(self).items()}

    def departures(self) -> list[str]:
        """Return the settings that are not the published ones, a line each, for the reader of a result."""
        given = asdict(self)
        return [f"{name} {given[name]} instead of {value}" for name, value in PUBLISHED.items() if given[name] != value]

    def check(self) -> None:
        """Raise PretrainError for values out of range, and where the output folder already has a result."""
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
        if (self.output / RESULT).exists():
            raise PretrainError(f"--output: {self.output}: already holds a {RESULT}; choose another folder")


def evaluate_backbone(options: Options, device: torch.device) -> None:
    """Train the linear layer and write the result. All ranks call it; rank 0 writes and logs."""
    found, network = checkpoint_cli.load_backbone(options.checkpoint, options.encoder, options.prefix, device)
    train, val = distributed.on_main(lambda: labelled_set.open_train_and_val(options.root, "--root"))
    distributed.share_cores(device, options.workers)
    distributed.on_main(lambda: options.output.mkdir(parents=True, exist_ok=True))
    log.disabled = not distributed.is_main()
    with _logging_to(options.output):
        log.info(f"{options.checkpoint}: {found.architecture.name}, {found.epoch or 'unknown'} epochs of pretraining")
        log.info(f"{len(train.images)} images to train on, {len(val.images)} to test, {len(train.classes)} classes")
        log.info(f"protocol: {options.protocol}")
        for departure in options.departures():
            log.warning(f"not as published: {departure}")
        rows = _train_layer(options, device, network, train, val)
        if not distributed.is_main():
            return
        result = {
            "top1": rows[-1]["top1"],
            "top5": rows[-1]["top5"],
            "protocol": options.protocol,
            "departures": options.departures(),
            "checkpoint": str(options.checkpoint),
            "checkpoint_sha256": file_sha256(options.checkpoint),
            "arch": found.architecture.name,
            "pretrain_epochs": found.epoch,
            "images": {"train": len(train.images), "val": len(val.images)},
            "classes": len(train.classes),
            "settings": options.as_written(),
            "environment": provenance.describe_environment(device, options.seed),
            "epochs": rows,
        }
        with whole_file(options.output / RESULT) as file:
            file.write(json.dumps(result, indent=2).encode() + b"\n")
        log.info(
            f"top-1 {result['top1']:.2%}, top-5 {result['top5']:.2%}, protocol {result['protocol']}; "
            f"written to {options.output / RESULT}"
        )


def _train_layer(
    options: Options,
    device: torch.device,
    network: nn.Module,
    train: labelled_set.LabelledImages,
    val: labelled_set.LabelledImages,
) -> list[dict[str, Any]]:
    """Return the results of all epochs (see `linear_probe.train_layer`), with a progress bar meanwhile."""
    how = (device, options.image_size, 128, options.workers)
    world = distributed.world_size()
    source: probe_features.FeatureSource
    with checkpoint_cli.image_progress() as bar:

        def extract(images: features.ImageSet, name: str) -> Tensor:
            task = bar.add_task(f"features of {name}", total=len(images), state="")
            return features.extract_own_share(network, images, *how, on_batch=lambda n: bar.advance(task, n * world))

        val_features = extract(val.images, "val")  # (n, C), this rank's share
        val_labels = val.labels[list(features.share_of_rank(len(val.labels)))]  # (n,)
        if options.fast:
            cached = features.gather_shares(extract(train.images, "train"), len(train.images))  # (N, C)
            source = probe_features.Cached(cached, train.labels, device, options.batch_size, options.seed)
        else:
            size, workers = options.image_size, options.workers
            source = probe_features.Crops(network, train, device, size, options.batch_size, workers, options.seed)
        display = _Display(bar, options.epochs, len(train.images))
        return linear_probe.train_layer(
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
        )


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
