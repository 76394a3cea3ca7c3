"""The training loop of MoCo, from top to bottom."""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from pretrain.build import build_model, build_optimizer
from pretrain.checkpoints import moco_file
from pretrain.checkpoints.saver import Saver
from pretrain.config import schema
from pretrain.data import two_views
from pretrain.data.augment import recipe
from pretrain.data.broken_images import BrokenImages
from pretrain.data.images.image_set import ImageSet
from pretrain.data.loader import DevicePrefetch, close_loader, make_loader
from pretrain.engine import diagnostics
from pretrain.engine.finite_check import NotFiniteError
from pretrain.engine.metrics import Monitor, console_handler
from pretrain.engine.optim import cosine_schedule, step_schedule
from pretrain.engine.profiler import Tracer
from pretrain.engine.step import Result, TrainingStep
from pretrain.models.published_state import load_published_state, published_state
from pretrain.plan import Plan, make_plan, share_images
from pretrain.runtime import distributed, malloc, run_folder, seeds, signals
from pretrain.runtime.errors import PretrainError, UserError, from_worker

log = logging.getLogger(__name__)


def run(
    settings: schema.Config,
    command: Sequence[str] = (),
    resume: bool | None = False,
    dry_run: bool = False,
    profile: bool = False,
) -> bool:
    """Pretrain as the settings say; every process of the job calls it.

    Args:
        command: what the user typed, for the run's folder.
        resume: go on from the newest good checkpoint in `output_dir`; None: where there is one, else begin.
        dry_run: check everything, print the settings and what would run, write nothing.
        profile: leave a trace of a few steps in the run's folder (pretrain/engine/profiler.py).

    Returns whether the run is finished; False where a signal asked it to stop and it has saved.
    Raises PretrainError for a user's mistake.
    """
    with signals.StopRequest() as stop:
        device = distributed.select_device(settings.device)
        distributed.init(device)
        distributed.share_cores(device, settings.data.workers)
        kept = device.type == "cpu" and malloc.keep_freed_memory()
        plan = make_plan(settings, device, resume)
        if dry_run:
            if distributed.is_main():
                print("\n".join([schema.to_yaml(settings), plan.describe(), *plan.notices]))
            return True
        if settings.data.workers:
            signals.shield_workers()
        torch.backends.cudnn.deterministic = settings.deterministic
        torch.backends.cudnn.benchmark = not settings.deterministic
        environment = {**run_folder.describe_environment(device, settings.seed), "freed_memory_kept": kept}
        yaml = schema.to_yaml(settings)
        distributed.on_main(lambda: run_folder.write_start(plan.folder, yaml, command, environment))
        logger = logging.getLogger("pretrain")
        with contextlib.ExitStack() as stack:
            if distributed.is_main():
                stack.enter_context(run_folder.logging_to(plan.folder, logger, console_handler()))
            _log_start(plan)
            return Trainer(plan, share_images(plan), stop, profile).train()


class Trainer:
    """One start of a run: everything that it holds, and the loop over it.

    Its position is the number of steps done, `monitor.done`; which epoch and which images come next follow from it.
    """

    def __init__(self, plan: Plan, images: ImageSet, stop: signals.StopRequest, profile: bool = False) -> None:
        settings, optim = plan.config, plan.config.optim
        self.plan, self.settings, self.stop = plan, settings, stop
        self.steps = len(plan.sampler)  # an epoch
        torch.manual_seed(settings.seed)
        self.model = build_model(settings.model, plan.device, plan.size, plan.shuffle, settings.method).train()
        self.optimizer = build_optimizer(self.model, optim)
        if plan.start:
            load_published_state(self.model, plan.start["state_dict"])
            self.optimizer.load_state_dict(plan.start["optimizer"])
        self.step = TrainingStep(self.model, self.optimizer, optim.precision, optim.clip_norm)
        self.loader = make_loader(
            two_views.TwoViews(
                images,
                recipe.recipe(settings.data.augmentation, settings.data.image_size, settings.data.crop_scale),
                settings.seed,
                settings.data.pipeline,
            ),
            plan.sampler,
            settings.data.workers,
            pin_memory=plan.device.type == "cuda",
        )
        self.prefetch = DevicePrefetch(plan.device, settings.model.channels_last)
        self.broken = BrokenImages(images, settings.data.max_broken)
        self.saver = Saver(plan.folder, settings.checkpoint_keep) if distributed.is_main() else None
        self.monitor = Monitor(
            plan.folder,
            optim.epochs * self.steps,
            plan.first_step,
            optim.batch_size,
            settings.log_period,
            plan.first_epoch,
        )
        self.tracer = Tracer(plan.folder, plan.first_step) if profile and distributed.is_main() else None
        self.saved_step = plan.first_step if plan.start else None
        if plan.start:
            self._restore(plan.start["moco_transfer"])

    def train(self) -> bool:
        """To the last epoch (True), or to the first step boundary after a signal to stop (False)."""
        try:
            with self.monitor, self.tracer or contextlib.nullcontext():
                for epoch in range(self.plan.first_epoch, self.settings.optim.epochs):
                    if not (self._train_epoch(epoch) and self._end_epoch(epoch)):
                        self._stop(epoch)
                        return False
        finally:
            close_loader(self.loader)
            if self.saver:
                self.saver.close()
        distributed.agree(self._fault())
        log.info("done: %s", self.plan.folder / moco_file.file_name(self.settings.optim.epochs - 1))
        return True

    def _train_epoch(self, epoch: int) -> bool:
        """The steps of an epoch that are not done yet. False where a signal cut it short."""
        for group in self.optimizer.param_groups:
            group["lr"] = self._lr(epoch)
        self.plan.sampler.epoch, self.plan.sampler.skip = epoch, self.monitor.done - epoch * self.steps
        period = self.settings.checkpoint_steps
        for batch in self.monitor.watch(self._batches()):
            result = self._step(batch)
            self.monitor.step(result.loss, result.accuracy)
            if self.tracer:
                self.tracer.step()
            ends = self.monitor.done == (epoch + 1) * self.steps
            if self.monitor.due() or ends:
                self._settle()
                self.monitor.report(epoch, self._lr(epoch), self._health(result))
            if period and self.monitor.done % period == 0 and not ends:
                self._save(epoch, within=True)
        return self.monitor.done == (epoch + 1) * self.steps

    def _batches(self) -> Iterator[two_views.Batch]:
        """What the loader yields, until the epoch's end or a signal. Between two steps all ranks have a word."""
        batches = iter(self.loader)
        while True:
            fault, batch = self._fault(), None
            try:
                batch = next(batches, None)
            except UserError as error:
                fault = from_worker(error)
            news = batch is not None and self.broken.note(batch.asked, batch.shown)
            stopping, news = distributed.agree(fault, self.stop.name is not None, news)
            if news:
                self.broken.share()
            if batch is None or stopping:
                return
            yield batch

    def _step(self, batch: two_views.Batch) -> Result:
        done, settings = self.monitor.done, self.settings
        generators = [seeds.generator("step", settings.seed, done, part) for part in range(settings.optim.accumulate)]
        query, key = self.prefetch(batch)
        try:
            return self.step(query, key, batch.asked, generators)
        except NotFiniteError as error:
            raise self._diverged(error, done + 1) from error

    def _settle(self) -> None:
        """Before anything of the steps so far is written: were they finite?"""
        try:
            self.step.settle()
        except NotFiniteError as error:
            raise self._diverged(error, self.monitor.done) from error

    def _diverged(self, error: NotFiniteError, newest: int) -> PretrainError:
        number = newest - error.steps_ago
        return PretrainError(
            f"step {number} (epoch {(number - 1) // self.steps}): {error}. Nothing of it was kept, and the last good "
            "checkpoint stands; a lower optim.lr may help"
        )

    def _end_epoch(self, epoch: int) -> bool:
        """Validate and save where that is due. False where a signal cut it short; a resumed run does it then."""
        settings, number = self.settings, epoch + 1
        last = number == settings.optim.epochs
        if self.plan.validation and (number % settings.knn.period == 0 or last):
            distributed.share_batchnorm_statistics(self.model)
            try:
                found = self.plan.validation.evaluate(self.model.encoder_q, self.plan.device, self.stop)
            except signals.Stopped:
                return False
            self.monitor.write({"epoch": epoch, "step": self.monitor.done, **found})
            log.info("epoch %d  kNN top-1 %.2f%%  (%s)", epoch, 100 * found["knn_top1"], found["knn_protocol"])
        period = settings.checkpoint_steps
        if number % settings.checkpoint_period == 0 or last or (period and self.monitor.done % period == 0):
            self._save(epoch)
        return True

    def _stop(self, epoch: int) -> None:
        """Save, unless that is done, and leave."""
        if self.saved_step != self.monitor.done:
            self._save(epoch, within=True)
        if self.saver:
            self.saver.wait()
        distributed.agree(self._fault())
        names = signals.names_on_all_ranks(self.stop)
        if distributed.is_main():
            log.warning(
                "stopped by %s after step %d of %d, saved; the same command with --resume goes on",
                names,
                self.monitor.done,
                self.monitor.steps,
            )

    def _save(self, epoch: int, within: bool = False) -> None:
        """Checkpoint now; every rank takes part. `within`: in the middle of the epoch."""
        self._settle()
        distributed.share_batchnorm_statistics(self.model)
        finished = epoch if within else epoch + 1
        content = {
            "epoch": finished,
            "arch": self.settings.model.arch,
            "state_dict": published_state(self.model),
            "optimizer": self.optimizer.state_dict(),
            "moco_transfer": self._state(),
        }
        self.saved_step = self.monitor.done
        period = self.settings.milestone_period
        milestone = not within and (finished == self.settings.optim.epochs or (period > 0 and finished % period == 0))
        if self.saver:
            name = moco_file.file_name(epoch, self.monitor.done if within else None)
            self.saver.save(name, content, finished, self.monitor.done, milestone)

    def _state(self) -> dict[str, Any]:
        """What a bit-exact resume needs beside the published content."""
        return {
            "config": schema.flat(self.settings),
            "images": self.plan.size,
            "digest": self.plan.digest,
            "world_size": distributed.world_size(),
            "threads": torch.get_num_threads(),
            "step": self.monitor.done,
            "monitor": self.monitor.state_dict(),
            "broken": self.broken.state_dict(),
            "scaler": self.step.scaler.state_dict(),
            "rng": torch.get_rng_state(),
        }

    def _restore(self, state: dict[str, Any]) -> None:
        self.monitor.load_state_dict(state["monitor"])
        self.broken.load_state_dict(state["broken"])
        self.step.scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["rng"])

    def _fault(self) -> UserError | None:
        """What went wrong on this rank beside the training."""
        return self.monitor.fault or (self.saver.fault if self.saver else None)

    def _lr(self, epoch: int) -> float:
        settings = self.settings.optim
        if settings.schedule == "step":
            return settings.lr * step_schedule(epoch, settings.milestones, settings.gamma)
        return settings.lr * cosine_schedule(epoch, settings.epochs)

    def _health(self, result: Result) -> dict[str, Any]:
        """Numbers that tell a run that learns from one that has collapsed or leaks."""
        numbers: dict[str, Any] = dict(diagnostics.health(result.query, result.positive, self.model.negatives))
        numbers["gradient_norm"] = result.gradient_norm
        numbers.update(self.model.diagnostics(self.monitor.done, self.settings.optim.batch_size))
        if self.step.scaler.is_enabled():
            numbers["loss_scale"] = self.step.scaler.get_scale()
        return {**numbers, "broken_images": self.broken.count}


def _log_start(plan: Plan) -> None:
    if distributed.is_main():
        for line in plan.describe().splitlines():
            log.info(line)
        for notice in plan.notices:
            log.warning("warning: %s", notice)
