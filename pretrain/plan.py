"""What a start of a run is going to do, checked as a whole before anything is written or trained."""

import pathlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pretrain import checkpoint, config, data, distributed, run_directory
from pretrain.config import Config, ConfigError
from pretrain.errors import PretrainError

# What a resumed run may change: settings of the machine, not of the experiment.
FREE = ("data.root", "data.workers", "output_dir", "device", "checkpoint_period", "log_period")


@dataclass(frozen=True)
class Plan:
    """One start of a run: fresh, or from a checkpoint."""

    config: Config
    device: torch.device
    folder: pathlib.Path
    images: Sequence[str]  # paths
    sampler: data.EpochSampler  # this rank's share of each batch
    shuffle: bool  # whether keys are encoded in another order than queries
    start: dict[str, Any] | None  # the content of the checkpoint to go on from
    notices: tuple[str, ...]  # what the user should know before it runs

    @property
    def first_epoch(self) -> int:
        return self.start["epoch"] if self.start else 0

    def describe(self) -> str:
        """A few lines for a person."""
        optim, world = self.config.optim, distributed.world_size()
        steps = len(self.sampler)
        lines = [
            f"images       {len(self.images)} in {self.config.data.root}",
            f"steps        {optim.epochs} epochs of {steps} steps of {optim.batch_size} images, "
            f"{len(self.images) - steps * optim.batch_size} images left out of each epoch",
            f"processes    {world} on {self.device.type}, {optim.batch_size // world} images a step each",
            f"shuffle-BN   {'on' if self.shuffle else 'off'}",
            f"output       {self.folder}" + (f", resumed after epoch {self.first_epoch - 1}" if self.start else ""),
        ]
        return "\n".join(lines)


def make_plan(settings: Config, device: torch.device, resume: bool = False) -> Plan:
    """Check the settings against the processes, the images and the output folder. Every rank must call it.

    Raises PretrainError for shares of the batch that do not come out even, for no images, for an output folder that
    holds a run (without `resume`), or none, or another than this one (with it).
    """
    world = distributed.world_size()
    _check_shares(settings, world)
    folder = pathlib.Path(settings.output_dir)
    start = None
    if resume:
        start = checkpoint.load(distributed.on_main(lambda: checkpoint.newest(folder)))
    else:
        distributed.on_main(lambda: run_directory.refuse_existing_run(folder))
    images = distributed.on_main(lambda: data.find_images(settings.data.root))
    notices = _check_same_run(start, settings, len(images)) if start else []
    shuffle, reason = _shuffle_effect(settings, world)
    return Plan(
        config=settings,
        device=device,
        folder=folder,
        images=images,
        sampler=data.EpochSampler(
            len(images), settings.optim.batch_size, settings.seed, distributed.rank(), distributed.world_size()
        ),
        shuffle=shuffle,
        start=start,
        notices=(*notices, *reason),
    )


def _check_shares(settings: Config, world: int) -> None:
    """Whether the batch and the ranks can be split as the settings say."""
    batch, groups, synced = settings.optim.batch_size, settings.model.bn_groups, settings.model.bn_sync_ranks
    faults = []
    if batch % (world * groups):
        faults.append(
            f"optim.batch_size: {batch} cannot be split evenly among {world} processes with {groups} BN groups each"
        )
    elif batch // (world * groups) < 2:
        faults.append(f"optim.batch_size: {batch} leaves a BN group of one image; 2 are needed in each")
    if synced and world % synced:
        faults.append(f"model.bn_sync_ranks: {world} processes cannot be split into groups of {synced}")
    if faults:
        raise ConfigError(faults)


def _shuffle_effect(settings: Config, world: int) -> tuple[bool, list[str]]:
    """Whether shuffling can change what a key shares its BN statistics with, and why not."""
    model = settings.model
    if not model.bn_shuffle or model.bn_groups * world // (model.bn_sync_ranks or world) > 1:
        return model.bn_shuffle, []
    if world > 1:
        reason = "SyncBN over all processes gives every image the same BN statistics in any order; sync fewer of them"
    else:
        reason = "one process with one BN group has the same BN statistics in any order; set model.bn_groups 2 or more"
    return False, [f"model.bn_shuffle can do nothing here, so queries and keys may leak through BN: {reason}"]


def _check_same_run(start: dict[str, Any], settings: Config, images: int) -> list[str]:
    """Refuse to go on from a checkpoint with other settings; tell what is allowed but not bit-exact."""
    ours = start.get("moco_transfer")
    if ours is None:
        raise PretrainError("--resume: the checkpoint was not written by this program, it lacks 'moco_transfer'")
    before, now = ours["config"], config.flat(settings)
    other = [
        f"{key}: the run began with {before.get(key)!r}, now it is {value!r}; a resumed run keeps its settings"
        for key, value in now.items()
        if key not in FREE and key != "optim.epochs" and value != before.get(key)
    ]
    if images != ours["images"]:
        other.append(f"data.root: the run began with {ours['images']} images, now there are {images}")
    if start["epoch"] > settings.optim.epochs:
        other.append(
            f"optim.epochs: the run has {start['epoch']} epochs already, {settings.optim.epochs} are asked for"
        )
    if other:
        raise ConfigError(other)
    notices = []
    if before["optim.epochs"] != settings.optim.epochs:
        notices.append(
            f"optim.epochs was {before['optim.epochs']} and is {settings.optim.epochs} now; "
            "the schedule follows the new length from here on"
        )
    if ours["world_size"] != distributed.world_size():
        notices.append(
            f"the run had {ours['world_size']} processes and has {distributed.world_size()} now; "
            "it goes on with the same batches, but not bit by bit as it would have"
        )
    return notices
