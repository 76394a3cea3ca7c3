"""The training loop of MoCo, from top to bottom."""

import logging
import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from pretrain import (
    augment,
    batchnorm,
    checkpoint,
    config,
    data,
    distributed,
    moco,
    randomness,
    run_directory,
    schedule,
)
from pretrain.monitor import Monitor, console_handler
from pretrain.plan import Plan, make_plan

log = logging.getLogger(__name__)


def run(settings: config.Config, command: Sequence[str] = (), resume: bool = False, dry_run: bool = False) -> None:
    """Pretrain as the settings say; every process of the job calls it.

    Args:
        command: what the user typed, for the run's folder.
        resume: go on from the newest checkpoint in `output_dir`.
        dry_run: check everything, print the settings and what would run, write nothing.

    Raises PretrainError for a user's mistake.
    """
    device = distributed.select_device(settings.device)
    distributed.init(device)
    plan = make_plan(settings, device, resume)
    if dry_run:
        if distributed.is_main():
            print("\n".join([config.to_yaml(settings), plan.describe(), *plan.notices]))
        return
    _set_threads(device, settings.data.workers)
    environment = run_directory.describe_environment(device, settings.seed)
    distributed.on_main(lambda: run_directory.write_start(plan.folder, config.to_yaml(settings), command, environment))
    if distributed.is_main():
        with run_directory.logging_to(plan.folder, logging.getLogger("pretrain"), console_handler()):
            train(plan)
    else:
        train(plan)


def train(plan: Plan) -> None:
    """Train from `plan.first_epoch` to the last, with a checkpoint after every `checkpoint_period` epochs."""
    settings, optim = plan.config, plan.config.optim
    torch.manual_seed(settings.seed)
    model = build(settings.model, plan.device).train()
    # The key encoder's parameters get no gradient and so no update; they are listed as in the published optimizer.
    optimizer = torch.optim.SGD(model.parameters(), optim.lr, optim.sgd_momentum, weight_decay=optim.weight_decay)
    if plan.start:
        _restore(plan.start, model, optimizer)
    ranks = distributed.data_parallel(model)
    loader = data.make_loader(
        data.TwoViews(
            plan.images,
            augment.recipe(settings.data.augmentation, settings.data.image_size, settings.data.crop_scale),
            settings.seed,
        ),
        plan.sampler,
        settings.data.workers,
        pin_memory=plan.device.type == "cuda",
    )
    steps = len(plan.sampler)
    _log_start(plan)
    with Monitor(
        plan.folder, optim.epochs * steps, plan.first_epoch * steps, optim.batch_size, settings.log_period
    ) as monitor:
        for epoch in range(plan.first_epoch, optim.epochs):
            lr = optim.lr * _factor(optim, epoch)
            for group in optimizer.param_groups:
                group["lr"] = lr
            plan.sampler.epoch = epoch
            for views in monitor.watch(data.batches(loader)):
                query_images, key_images = (
                    augment.normalize(images.to(plan.device, non_blocking=True)) for images in views
                )
                order = _permutation(settings.seed, monitor.done, optim.batch_size) if plan.shuffle else None
                monitor.step(*train_step(ranks, model, optimizer, query_images, key_images, order))
                if monitor.due():
                    monitor.report(epoch, lr)
            monitor.report(epoch, lr)
            if (epoch + 1) % settings.checkpoint_period == 0 or epoch + 1 == optim.epochs:
                _save(plan, model, optimizer, epoch)
    log.info("done: %s", plan.folder / checkpoint.file_name(optim.epochs - 1))


def train_step(
    ranks: nn.Module,
    model: moco.MoCo,
    optimizer: Optimizer,
    query_images: Tensor,
    key_images: Tensor,
    permutation: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """One step of Algorithm 1 on this process's two views, (N, 3, H, W) each, of the same images.

    Args:
        ranks: `model`, under DistributedDataParallel where there are several processes.
        permutation: (world size x N,) for shuffle-BN, or None.

    Returns:
        Loss and contrast accuracy, () each, of this process's queries before the update.
    """
    model.update_key_encoder()
    output = ranks(query_images, key_images, permutation)
    optimizer.zero_grad()
    output.loss.backward()
    optimizer.step()
    model.queue.enqueue(output.keys)
    return output.loss.detach(), output.accuracy


def build(settings: config.Model, device: torch.device | str = "cpu") -> moco.MoCo:
    """MoCo with the BN that the settings ask for. Draws its weights from the default generator of the CPU."""
    encoder = moco.build_encoder(settings.arch, settings.dim, settings.head)
    model = moco.MoCo(encoder, settings.dim, settings.queue_size, settings.momentum, settings.temperature).to(device)
    if settings.bn_groups > 1:
        batchnorm.split_batchnorm(model, settings.bn_groups)
    if settings.bn_sync_ranks != 1:
        group = distributed.subgroup(settings.bn_sync_ranks or distributed.world_size())
        batchnorm.convert_sync_batchnorm(model, group)
    return model


def _factor(optim: config.Optim, epoch: int) -> float:
    if optim.schedule == "step":
        return schedule.step(epoch, optim.milestones, optim.gamma)
    return schedule.cosine(epoch, optim.epochs)


def _permutation(seed: int, step: int, batch_size: int) -> Tensor:
    """The order in which the keys of a step are encoded, the same on every rank without a word between them."""
    return torch.randperm(batch_size, generator=randomness.generator("shuffle", seed, step))


def _save(plan: Plan, model: moco.MoCo, optimizer: Optimizer, epoch: int) -> None:
    """Checkpoint after an epoch. Every rank takes over rank 0's BN statistics, as it would from the checkpoint."""
    distributed.broadcast([*model.encoder_q.buffers(), *model.encoder_k.buffers()])

    def write() -> None:
        name = checkpoint.file_name(epoch)
        checkpoint.save(plan.folder / name, _content(plan, model, optimizer, epoch))
        checkpoint.save_text(plan.folder / checkpoint.LAST, name)
        log.info("saved %s", plan.folder / name)

    distributed.on_main(write)


def _content(plan: Plan, model: moco.MoCo, optimizer: Optimizer, epoch: int) -> dict[str, Any]:
    return {
        "epoch": epoch + 1,
        "arch": plan.config.model.arch,
        "state_dict": moco.published_state(model),
        "optimizer": optimizer.state_dict(),
        "moco_transfer": {
            "config": config.flat(plan.config),
            "images": len(plan.images),
            "world_size": distributed.world_size(),
            "rng": torch.get_rng_state(),
        },
    }


def _restore(start: dict[str, Any], model: moco.MoCo, optimizer: Optimizer) -> None:
    moco.load_published_state(model, start["state_dict"])
    optimizer.load_state_dict(start["optimizer"])
    torch.set_rng_state(start["moco_transfer"]["rng"])


def _log_start(plan: Plan) -> None:
    if distributed.is_main():
        if plan.start:
            run_directory.cut_metrics(plan.folder, plan.first_epoch * len(plan.sampler))
        for line in plan.describe().splitlines():
            log.info(line)
        for notice in plan.notices:
            log.warning("warning: %s", notice)


def _set_threads(device: torch.device, workers: int) -> None:
    """On a CPU share the cores out: loader workers beside a thread too many cost a factor of 3."""
    # torchrun sets one thread where the user sets none; then, too, the cores are to be shared out.
    chosen = os.environ.get("OMP_NUM_THREADS")
    if device.type == "cpu" and (chosen is None or (chosen == "1" and "TORCHELASTIC_RUN_ID" in os.environ)):
        cores = len(os.sched_getaffinity(0))
        torch.set_num_threads(max(1, cores // distributed.local_world_size() - workers))
