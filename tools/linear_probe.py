"""Train and test a linear classifier on the frozen backbone of a MoCo checkpoint: the published linear evaluation."""

import argparse
import contextlib
import json
import logging
import sys
from pathlib import Path
from typing import Any

import torch
from rich.logging import RichHandler
from rich.progress import Progress
from torch import Tensor, nn

from common import checkpoint_cli, cli
from pretrain.data.images import labelled_set
from pretrain.evaluation import features, linear_probe, probe_features
from pretrain.runtime import distributed, run_folder
from pretrain.runtime.errors import PretrainError
from pretrain.runtime.files import whole_file
from transfer.weights.detector_file import sha256

RESULT = "linear_probe.json"
PUBLISHED = {"lr": 30.0, "epochs": 100, "milestones": [60, 80], "batch_size": 256, "image_size": 224}
log = logging.getLogger("linear_probe")

EXAMPLES = """\
examples:
  # the published protocol; IMAGENET holds train/CLASS/IMAGES and val/CLASS/IMAGES
  torchrun --nproc-per-node 8 tools/linear_probe.py output/moco/checkpoint_0199.pth.tar --root IMAGENET \\
      --output output/moco_linear
  # in minutes: features of the centre crop, made once; its numbers are no published protocol's
  python tools/linear_probe.py output/moco/checkpoint_0019.pth.tar --root LABELLED --output output/moco_fast --fast

linear_probe.json has the accuracy after every epoch; top1 and top5 are those of the last, not of the best.
"""


def main() -> None:
    arguments = parse()
    check(arguments)
    device = distributed.select_device(arguments.device)
    distributed.init(device)
    try:
        probe(arguments, device)
    finally:
        distributed.shutdown()


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("checkpoint", type=Path, metavar="CHECKPOINT", help="of MoCo, released or this project's")
    add("--root", required=True, metavar="DIR", help="labelled images: train/CLASS/IMAGES and val/CLASS/IMAGES")
    add("--output", type=Path, required=True, metavar="DIR", help=f"folder for {RESULT} and log.txt")
    add("--fast", action="store_true", help="train on features of the centre crop, made once, instead of new crops")
    add("--lr", type=float, default=30.0, help="learning rate of the first epoch (published and default: 30)")
    add("--epochs", type=int, default=100, help="passes over train (published and default: 100)")
    add("--milestones", type=int, nargs="*", default=[60, 80], help="epochs of a tenth of the rate (default: 60 80)")
    add("--batch-size", type=int, default=256, help="images a step, of all processes together (default: 256)")
    add("--image-size", type=int, default=224, help="side of a crop in pixels (default: 224)")
    add(
        "--workers",
        type=int,
        default=checkpoint_cli.default_workers(),
        help="image readers a process (here: %(default)s)",
    )
    add("--device", default="auto", help="cpu, cuda, cuda:N, or auto: cuda where there is one (default)")
    add("--seed", type=int, default=0, help="of the layer, the order and the crops (default: 0)")
    return parser.parse_args()


def check(arguments: argparse.Namespace) -> None:
    """Refuse flags out of range, and a folder that has a result."""
    checkpoint_cli.check_flags(
        [
            ("--lr", arguments.lr, 1e-9),
            ("--epochs", arguments.epochs, 1),
            *(("--milestones", epoch, 0) for epoch in arguments.milestones),
            ("--batch-size", arguments.batch_size, 1),
            ("--image-size", arguments.image_size, 32),
            ("--workers", arguments.workers, 0),
            ("--seed", arguments.seed, 0),
        ]
    )
    if (arguments.output / RESULT).exists():
        raise PretrainError(f"--output: {arguments.output}: already holds a {RESULT}; choose another folder")


def probe(arguments: argparse.Namespace, device: torch.device) -> None:
    """The whole job of one process."""
    encoder, network = checkpoint_cli.load(arguments.checkpoint, device)
    train, val = distributed.on_main(lambda: labelled_set.open_split(arguments.root, "--root"))
    distributed.share_cores(device, arguments.workers)
    distributed.on_main(lambda: arguments.output.mkdir(parents=True, exist_ok=True))
    log.disabled = not distributed.is_main()
    with logging_to(arguments.output):
        log.info(f"{arguments.checkpoint}: {encoder.arch}, {encoder.epoch or 'unknown'} epochs of pretraining")
        log.info(f"{len(train.images)} images to train on, {len(val.images)} to test, {len(train.classes)} classes")
        log.info(f"protocol: {protocol(arguments.fast)}")
        for departure in departures(arguments):
            log.warning(f"not as published: {departure}")
        rows = learn(arguments, device, network, train, val)
        if not distributed.is_main():
            return
        result = {
            "top1": rows[-1]["top1"],
            "top5": rows[-1]["top5"],
            "protocol": protocol(arguments.fast),
            "departures": departures(arguments),
            "checkpoint": str(arguments.checkpoint),
            "checkpoint_sha256": sha256(arguments.checkpoint),
            "arch": encoder.arch,
            "pretrain_epochs": encoder.epoch,
            "images": {"train": len(train.images), "val": len(val.images)},
            "classes": len(train.classes),
            "settings": settings(arguments),
            "environment": run_folder.describe_environment(device, arguments.seed),
            "epochs": rows,
        }
        with whole_file(arguments.output / RESULT) as file:
            file.write(json.dumps(result, indent=2).encode() + b"\n")
        log.info(
            f"top-1 {result['top1']:.2%}, top-5 {result['top5']:.2%}, protocol {result['protocol']}; "
            f"written to {arguments.output / RESULT}"
        )


def learn(
    arguments: argparse.Namespace,
    device: torch.device,
    network: nn.Module,
    train: labelled_set.Labelled,
    val: labelled_set.Labelled,
) -> list[dict[str, Any]]:
    """The rows of all epochs, with a progress bar while they come."""
    how = (device, arguments.image_size, 128, arguments.workers)
    world = distributed.world_size()
    source: probe_features.Source
    with checkpoint_cli.progress_bar() as bar:

        def extract(images: features.ImageSet, name: str) -> Tensor:
            task = bar.add_task(f"features of {name}", total=len(images), state="")
            return features.extract_share(network, images, *how, on_batch=lambda n: bar.advance(task, n * world))

        val_features = extract(val.images, "val")
        val_labels = val.labels[list(features.share(len(val.labels)))]
        if arguments.fast:
            cached = features.gather(extract(train.images, "train"), len(train.images))
            source = probe_features.Cached(cached, train.labels, device, arguments.batch_size, arguments.seed)
        else:
            size, workers = arguments.image_size, arguments.workers
            source = probe_features.Crops(network, train, device, size, arguments.batch_size, workers, arguments.seed)
        watch = Watch(bar, arguments.epochs, len(train.images))
        return linear_probe.train(
            source,
            val_features,
            val_labels,
            len(train.classes),
            device,
            arguments.lr,
            arguments.epochs,
            arguments.milestones,
            arguments.seed,
            watch.step,
            watch.epoch,
        )


class Watch:
    """Shows how the training goes: the bar after a step, a line of the log after an epoch."""

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


def protocol(fast: bool) -> str:
    """What to call the numbers."""
    return "fast (cached centre-crop features)" if fast else "published"


def departures(arguments: argparse.Namespace) -> list[str]:
    """The settings that are not the published ones, for a reader of the result."""
    given = vars(arguments)
    return [f"{name} {given[name]} instead of {value}" for name, value in PUBLISHED.items() if given[name] != value]


def settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """Flags as they were in force."""
    return {name: str(value) if isinstance(value, Path) else value for name, value in vars(arguments).items()}


def logging_to(folder: Path) -> contextlib.AbstractContextManager[None]:
    """What rank 0 logs goes to the folder's log.txt and to the terminal, there above the bar."""
    if not distributed.is_main():
        return contextlib.nullcontext()
    terminal = checkpoint_cli.console.is_terminal
    handler = (
        RichHandler(console=checkpoint_cli.console, show_path=False, show_level=False, log_time_format="%X")
        if terminal
        else None
    )
    return run_folder.logging_to(folder, log, handler or logging.StreamHandler(sys.stderr))


if __name__ == "__main__":
    cli.run(main)
