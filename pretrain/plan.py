"""The plan of an attempt of a run, checked as a whole before anything is written or trained."""

import logging
import pathlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from pretrain import output_folder
from pretrain.checkpoints import saver
from pretrain.config.notices import unusual_settings
from pretrain.config.schema import Config, ConfigError
from pretrain.data.images.integrity import wide_values_notices
from pretrain.data.images.labelled_set import label_by_folder
from pretrain.data.images.shared_set import FoundImages, find_images
from pretrain.data.sampler import EpochSampler
from pretrain.engine import arithmetic, kernels
from pretrain.evaluation.knn import KnnMonitor
from pretrain.models.initial_weights import (
    InitialWeights,
    WeightsReader,
    describe_weights,
    read_weights,
)
from pretrain.models.registry import find_method
from pretrain.resuming import check_same_run, notices_of_other_bits, other_settings
from pretrain.runtime import distributed, files
from pretrain.runtime.errors import PretrainError, UserError, listed, printable
from pretrain.runtime.ranks import cores
from pretrain.runtime.trackers.tracked_run import Trackers

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """The plan of one attempt of a run: from the beginning, or from a checkpoint."""

    config: Config
    device: torch.device
    folder: pathlib.Path
    images: FoundImages
    classes: tuple[str, ...]  # of the images, for a method that learns them; else none
    sampler: EpochSampler  # this rank's share of each batch
    shuffle: bool  # whether keys are encoded in another order than queries
    validation: KnnMonitor | None
    weights: InitialWeights | None  # to begin with; None: random ones, or those of a checkpoint
    began_from: dict[str, Any] | None  # the record of the weights that the run began with; None: random ones
    resume_from: pathlib.Path | None  # a checkpoint; None: a run that begins
    workers: int  # loader processes of this one
    threads: int  # of this process
    first_step: int  # the steps of the run that were done before this attempt
    first_epoch: int  # the epochs finished before it; the next one may lack only the work at its end
    notices: tuple[str, ...]  # what the user should know before it runs

    def describe(self) -> str:
        """Return a few lines for the user."""
        optim, world, steps = self.config.optim, distributed.world_size(), len(self.sampler)
        parts = f", in {optim.accumulate} parts" if optim.accumulate > 1 else ""
        epoch, step = divmod(self.first_step, steps)
        lines = [
            f"images       {self.images.size} in {printable(self.config.data.root)}",
            f"steps        {optim.epochs} epochs of {steps} steps of {optim.batch_size} images, "
            f"{self.images.size - steps * optim.batch_size} images left out of each epoch",
            f"compute      {optim.epochs * steps * optim.batch_size} images seen, in {self.views} "
            f"view{'s' if self.views > 1 else ''} each",
            f"processes    {world} on {self.device.type}, {optim.batch_size // world} images a step each{parts}",
            f"cores        {_counted(self.threads, 'thread')} and "
            f"{_counted(self.workers, 'loader worker')} in each process",
            f"arithmetic   {arithmetic.describe(optim.precision, self.config.deterministic)}",
            f"kernels      {self.kernels}",
            f"shuffle-BN   {'on' if self.shuffle else 'off'}",
            f"weights      {describe_weights(self.began_from, bool(self.resume_from))}",
            f"output       {self.folder}" + (f", resumed at step {step} of epoch {epoch}" if self.resume_from else ""),
        ]
        if self.classes:
            named = listed(map(printable, self.classes))
            lines.insert(1, f"classes      {len(self.classes)}, the folders in data.root: {named}")
        return "\n".join(lines)

    @property
    def views(self) -> int:
        """The number of views of an image that the method compares in a step."""
        return 2 if find_method(self.config.model.mechanism).keys_of_batch else 1

    @property
    def kernels(self) -> str:
        """The way in which the kernels of the encoders are made and launched."""
        if self.config.optim.compile:
            device = "the device's augmentation, " if self.config.data.pipeline == "device" else ""
            return f"of the encoders, {device}compiled by torch.compile"
        return "of the encoders launched as CUDA graphs" if self.config.optim.cuda_graph else "torch's own, one by one"

    def log(self, machine: Mapping[str, str | None], notice: str | None = None) -> None:
        """Log, on the main process, what the attempt will do, on what machine, and what the user should know before.

        Args:
            machine: as provenance.describe_machine has it.
            notice: one more than the plan's own.
        """
        if distributed.is_main():
            for line in self.describe().splitlines():
                log.info(line)
            log.info("machine      %s", ", ".join(name for name in machine.values() if name))
            for text in (*self.notices, *filter(None, [notice])):
                log.warning("warning: %s", text)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def make_plan(
    settings: Config, device: torch.device, resume: bool | None = False, read: WeightsReader | None = None
) -> Plan:
    """Check the settings against the processes, the images and the output folder. Every rank must call it.

    `resume` None: where the folder holds a checkpoint; where it holds a run without one, that run begins anew. `read`
    reads the file of model.weights, on the main process.

    Raises PretrainError for shares of the batch that do not come out even, for no images, for an output folder that
    holds a run (without `resume`), or no good checkpoint, or another run than this one (with it), for bad weights.
    """
    world = distributed.world_size()
    _check_shares(settings, world)
    _check_kernels(settings, device, world)
    distributed.on_main(Trackers(settings.wandb, settings.mlflow).check)
    folder = pathlib.Path(settings.output_dir)
    start: dict[str, Any] | None = None  # the content of the checkpoint, mapped: only what is used is read
    path: pathlib.Path | None = None
    skipped: list[str] = []
    begin_anew = resume is None and not distributed.on_main(lambda: saver.has_checkpoint(folder))
    if begin_anew:
        distributed.on_main(
            lambda: output_folder.refuse_other_run(folder, lambda found: other_settings(settings, found))
        )
    elif resume is not False:
        path, skipped = distributed.on_main(lambda: saver.newest_good(folder))
        start = files.load_tensors(path, mmap=True)
    else:
        distributed.on_main(lambda: output_folder.refuse_existing_run(folder))
    if path is None:
        roots = {"data.root": settings.data.root, "knn.root": settings.knn.root}
        distributed.on_main(lambda: output_folder.refuse_folder_of_images(folder, roots))
    workers = cores.loader_workers(device, settings.data.workers, distributed.local_world_size())
    validation = _open_validation(settings, workers)
    ours = start.get("moco_transfer") if start else None
    known = ours["digest"] if ours else None
    images = find_images(settings.data.root, folder / output_folder.INDEX, known)
    classes = distributed.on_main(lambda: _classes(settings, images))
    notices = [f"--resume passes over {reason}" for reason in skipped]
    if path and not saver.manifest_path(path).exists():
        notices.append(f"--resume takes {path.name}, which has no manifest, by the checksums of its own format")
    notices += validation.notices if validation else []
    notices += check_same_run(start, settings, images) if start else []
    threads, fewer = _choose_threads(device, workers, ours)
    notices += fewer + (notices_of_other_bits(ours, settings, threads) if ours else [])
    notices += [*images.on_main.notices, *wide_values_notices(images.on_main)] if images.on_main else []
    shuffle, reasons = _shuffle_effect(settings, world)
    sampler = EpochSampler(images.size, settings.optim.batch_size, settings.seed, distributed.rank(), world)
    notices += unusual_settings(settings, device, images.size)
    optim = settings.optim
    keys = optim.batch_size // optim.accumulate
    notices += [*reasons, *find_method(settings.model.mechanism).notices(settings.model, keys)]
    step, epoch = (ours["step"], start["epoch"]) if start and ours else (0, 0)
    model = settings.model
    weights = None if path else distributed.on_main(lambda: read_weights(model.weights, model.arch, read))
    began_from = dict(weights.record) if weights else ours.get("weights") if ours else None
    return Plan(
        *(settings, device, folder, images, classes, sampler, shuffle, validation),
        *(weights, began_from, path, workers, threads, step, epoch, tuple(notices)),
    )


def _classes(settings: Config, images: FoundImages) -> tuple[str, ...]:
    """Return the classes that the method learns, on the main process. Raises PretrainError where there are none."""
    mechanism, root = settings.model.mechanism, settings.data.root
    if not find_method(mechanism).labelled or images.on_main is None:
        return ()
    setting = f"model.mechanism {mechanism} learns the class folders in data.root"
    classes = label_by_folder(images.on_main, root, setting).classes
    if set(classes) <= {"train", "val", "test"}:
        part = "train" if "train" in classes else classes[0]
        raise PretrainError(
            f"{setting}: {root}: its folders are {listed(classes)}, parts of a data set and not its classes; give one "
            f"of them: data.root {pathlib.Path(root) / part}"
        )
    return classes


def _open_validation(settings: Config, workers: int) -> KnnMonitor | None:
    """Open the labelled images of validation, on every rank; None where the settings name none."""
    if not settings.knn.root:
        return None
    found, fault = None, None
    try:
        found = KnnMonitor(
            settings.knn.root,
            settings.data.image_size,
            settings.knn.k,
            settings.knn.temperature,
            workers=workers,
            max_broken=settings.data.max_broken,
        )
    except UserError as error:
        fault = error
    distributed.agree(fault)
    return found


def _check_shares(settings: Config, world: int) -> None:
    """Refuse a batch or ranks that cannot be split as the settings say."""
    batch, groups, synced = settings.optim.batch_size, settings.model.bn_groups, settings.model.bn_sync_ranks
    parts = settings.optim.accumulate
    in_parts = f" in {parts} parts" if parts > 1 else ""
    faults = []
    if batch % (world * parts * groups):
        faults.append(
            f"optim.batch_size: {batch} cannot be split evenly among {world} processes with {groups} BN groups each"
            + in_parts
        )
    elif batch // (world * parts * groups) < 2:
        faults.append(f"optim.batch_size: {batch} leaves a BN group of one image{in_parts}; 2 are needed in each")
    if synced and world % synced:
        faults.append(f"model.bn_sync_ranks: {world} processes cannot be split into groups of {synced}")
    if faults:
        raise ConfigError(faults)


def _check_kernels(settings: Config, device: torch.device, world: int) -> None:
    """Refuse a compilation that this machine, and CUDA graphs that this run cannot have, on all ranks."""
    optim, mechanism, faults = settings.optim, settings.model.mechanism, []
    if optim.compile and (lacking := kernels.compiler_fault(device)):
        faults.append(f"optim.compile: on this machine torch.compile lacks {lacking}; or set it to false")
    if optim.cuda_graph and device.type != "cuda":
        faults.append(f"optim.cuda_graph: the run is on {device.type}, which has no CUDA graphs; set it to false")
    if optim.cuda_graph and not find_method(mechanism).one_pass:
        faults.append(
            f"optim.cuda_graph: {mechanism} passes an encoder twice in a step, where the second pass would overwrite "
            "what the first has kept for the gradient; set it to false"
        )
    images = optim.batch_size // world
    if optim.cuda_graph and images > kernels.MOST_IMAGES:
        faults.append(
            f"optim.cuda_graph: {images} images a process keep a GPU busy for longer than their kernels take to "
            f"launch, so that it would cost memory and win nothing; it is for at most {kernels.MOST_IMAGES}: set it to "
            "false"
        )
    distributed.agree(ConfigError(faults) if faults else None)


def _choose_threads(device: torch.device, workers: int, ours: dict[str, Any] | None) -> tuple[int, list[str]]:
    """Return the threads of this process, those that the run began with where it can, and a notice of missing cores."""
    began_with = ours.get("threads") if ours and ours["world_size"] == distributed.world_size() else None
    threads, notice = cores.choose_threads(
        device, workers, distributed.local_world_size(), began_with, cores.cores_of_others
    )
    return threads, [notice] if notice else []


def _shuffle_effect(settings: Config, world: int) -> tuple[bool, list[str]]:
    """Return whether shuffling can change which images a key shares its BN statistics with, and why it cannot."""
    model = settings.model
    if not find_method(model.mechanism).keys_of_batch:
        return False, []
    if not model.bn_shuffle or model.bn_groups * world // (model.bn_sync_ranks or world) > 1:
        return model.bn_shuffle, []
    if world > 1:
        reason = "SyncBN over all processes gives every image the same BN statistics in any order; sync fewer of them"
    else:
        reason = "one process with one BN group has the same BN statistics in any order; set model.bn_groups 2 or more"
    return False, [f"model.bn_shuffle has no effect here, so queries and keys may leak through BN: {reason}"]
