"""The training loop of MoCo, from top to bottom."""

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

import torch

from pretrain.build import build_model, build_optimizer, device_augmentation, learning_rate, set_kernels
from pretrain.checkpoints import moco_file
from pretrain.checkpoints.saver import Saver, to_host
from pretrain.config import config_io
from pretrain.data.augment import recipe
from pretrain.data.broken_images import BrokenImages
from pretrain.data.images.image_set import ImageSet
from pretrain.data.images.labelled_set import label_by_folder
from pretrain.data.loader import DevicePrefetch, EpochLoader
from pretrain.data.two_views import Batch, TwoViews
from pretrain.engine import diagnostics
from pretrain.engine.finite_check import DivergedError, NotFiniteError
from pretrain.engine.metrics import Monitor
from pretrain.engine.profiler import Tracer
from pretrain.engine.step import Result, TrainingStep
from pretrain.models.published_state import load_published_state, published_state
from pretrain.plan import Plan
from pretrain.runtime import distributed, files, seeds, signals
from pretrain.runtime.errors import PretrainError, UserError, from_worker
from pretrain.runtime.hangs import clock
from pretrain.runtime.metrics_file import Follow
from pretrain.runtime.periodic_work import every
from pretrain.work import is_milestone, work_between_steps

log = logging.getLogger(__name__)


class Trainer:
    """An attempt of a run: everything that it holds, and the loop over it.

    The position of the run is the number of steps done, `done`; which epoch and which images come next follow from it.
    The work between two steps is in `work`: a checkpoint within the epoch; at its end a checkpoint, then validation.

    Only rank 0 meets a full disk, in the thread that writes or between two collectives, so nothing is raised there:
    `monitor.fault` and `saver.fault` keep it, and `_fault` brings it to the next `distributed.agree`, where every rank
    raises it.
    """

    def __init__(
        self, plan: Plan, images: ImageSet, stop: signals.StopRequest, follow: Follow, profile: bool = False
    ) -> None:
        settings, optim = plan.config, plan.config.optim
        self.plan, self.settings, self.stop = plan, settings, stop
        self.epoch_steps = len(plan.sampler)
        self.last_step = optim.epochs * self.epoch_steps
        torch.manual_seed(settings.seed)
        self.model = build_model(
            settings.model,
            plan.device,
            plan.images.size,
            plan.shuffle,
            own=settings.method,
            classes=len(plan.classes),
            weights=plan.weights,
        ).train()
        self.optimizer = build_optimizer(self.model, optim)
        start = files.load_tensors(plan.resume_from, mmap=True) if plan.resume_from else None  # not kept: it is large
        if start:
            load_published_state(self.model, start["state_dict"])
            self.optimizer.load_state_dict(to_host(start["optimizer"]))
        set_kernels(self.model, settings, plan.device)
        self.step = TrainingStep(self.model, self.optimizer, optim.precision, optim.clip_norm)
        data = settings.data
        augmentation = recipe.recipe(data.augmentation, data.image_size, data.crop_scale)
        views = TwoViews(images, augmentation, settings.seed, data.pipeline, plan.views)
        self.loader = EpochLoader(views, plan.sampler, plan.workers, pin_memory=plan.device.type == "cuda")
        self.prefetch = DevicePrefetch(plan.device, settings.model.channels_last, device_augmentation(settings))
        self.labels = label_by_folder(images, settings.data.root, "data.root").labels if plan.classes else None
        self.broken = BrokenImages(images, settings.data.max_broken)
        self.saver = Saver(plan.folder, settings.checkpoint_keep) if distributed.is_main() else None
        self.monitor = Monitor(plan.folder, self.last_step, plan.first_step, optim.batch_size, plan.first_epoch, follow)
        self.tracer = Tracer(plan.folder, plan.first_step) if profile and distributed.is_main() else None
        self.work = work_between_steps(plan, self._save, self._validate)
        self.saved_step = plan.first_step if plan.resume_from else None
        if start:
            self._restore(to_host(start["moco_transfer"]))

    @property
    def done(self) -> int:
        """The steps of the run that are done."""
        return self.work.done

    def train(self) -> bool:
        """Train to the last epoch (True), or to the first step boundary after a signal to stop (False)."""
        try:
            with self.monitor, self.tracer or contextlib.nullcontext():
                if not self._train_epochs():
                    self._stop()
                    return False
        finally:
            self.loader.close()
            if self.saver:
                self.saver.close()
        log.info("done: %s", self.plan.folder / moco_file.file_name(self.settings.optim.epochs - 1))
        return True

    def _train_epochs(self) -> bool:
        """Train through the epochs that are left. False where a signal cut one short."""
        try:
            with clock.within("training"):
                self.work.run_pending()
                while self.done < self.last_step:
                    epoch = self.done // self.epoch_steps
                    self._train_epoch(epoch)
                    if self.done < (epoch + 1) * self.epoch_steps:
                        return False
            if self.saver:
                self.saver.wait()
            distributed.agree(self._fault())
        except signals.Stopped:  # in a validation, which stays pending: a resumed run does it
            return False
        except DivergedError:
            raise
        except UserError as error:  # between two steps, on all ranks: data, storage or disk; the weights are good
            distributed.agree(self._saved_before(error))  # raises it
        return True

    def _train_epoch(self, epoch: int) -> None:
        """Do the steps of an epoch that are not done yet and the work after each, until a signal comes."""
        log_due = every(self.settings.log_period, (epoch + 1) * self.epoch_steps)
        for batch in self.monitor.watch(self._batches(epoch)):
            lr = learning_rate(self.settings.optim, self.done, self.epoch_steps)
            for group in self.optimizer.param_groups:
                group["lr"] = lr
            result = self._step(batch)
            self.monitor.step(result.loss, result.accuracy)
            if self.tracer:
                self.tracer.step()
            done = self.done + 1
            if log_due(done):  # not among the work between steps: it needs the step's result
                self._flush_checks(done)
                self.monitor.report(done, epoch, lr, self._diagnostics(done, result))
            self.work.advance()

    def _batches(self, epoch: int) -> Iterator[Batch]:
        """Yield the batches left in an epoch, until a signal. Before each one all ranks agree on how it stands."""
        batches = self.loader.batches(epoch, self.done - epoch * self.epoch_steps)
        while True:
            fault, batch = self._fault(), None
            try:
                batch = next(batches, None)
            except UserError as error:
                fault = from_worker(error)
            news = batch is not None and self.broken.note(batch.requested, batch.used)
            stopping, news = distributed.agree(fault, self.stop.name is not None, news)
            if news:
                self.broken.share()
            if batch is None or stopping:
                return
            yield batch

    def _step(self, batch: Batch) -> Result:
        settings = self.settings
        parts = range(settings.optim.accumulate)
        generators = [seeds.generator("step", settings.seed, self.done, part) for part in parts]
        query, key = self.prefetch(batch)  # (N, 3, size, size) uint8 each
        indices = batch.requested if self.labels is None else self.labels[batch.used]  # (N,)
        try:
            return self.step(query, key, indices, generators)
        except NotFiniteError as error:
            raise self._diverged(error, self.done + 1) from error

    def _flush_checks(self, done: int) -> None:
        """Make sure that all of the first `done` steps were finite, before anything of them is written."""
        try:
            self.step.flush_checks()
        except NotFiniteError as error:
            raise self._diverged(error, done) from error

    def _diverged(self, error: NotFiniteError, newest: int) -> DivergedError:
        number = newest - error.steps_ago
        return DivergedError(
            f"step {number} (epoch {(number - 1) // self.epoch_steps}): {error}. Nothing of this step was kept, and "
            "the last good checkpoint is intact; a lower optim.lr may help"
        )

    def _validate(self, done: int) -> None:
        """Measure kNN accuracy. Raises signals.Stopped on all ranks where a signal interrupts it."""
        if self.plan.validation is None:
            return
        distributed.share_batchnorm_statistics(self.model)
        found = self.plan.validation.evaluate(self.model.encoder_q, self.plan.device, self.stop)
        epoch = done // self.epoch_steps - 1
        self.monitor.write({"epoch": epoch, "step": done, **found})
        log.info("epoch %d  kNN top-1 %.2f%%  (%s)", epoch, 100 * found["knn_top1"], found["knn_protocol"])

    def _stop(self) -> None:
        """Save, unless that is done, and report where the run stands."""
        if self.saved_step != self.done:
            self._save()
        if self.saver:
            self.saver.wait()
        distributed.agree(self._fault())
        names = signals.names_on_all_ranks(self.stop)
        if distributed.is_main():
            log.warning(
                "stopped by %s after step %d of %d, saved; the same command with --resume continues it",
                names, self.done, self.last_step,
            )  # fmt: skip

    def _saved_before(self, error: UserError) -> UserError:
        """Save, unless that is done, and return the error with words on what is saved. Every rank takes part.

        An attempt that has gained nothing has nothing to save; an outage is then an error that needs a person, since
        a run that was started again and again would not get any further.
        """
        if self.done == self.plan.first_step:
            held = f". This attempt did no step; step {self.done} is saved" if self.plan.resume_from else ""
            return PretrainError(f"{error}{held}")
        if self.saver:
            self.saver.wait()
        (failed,) = distributed.agree(None, bool(self.saver and self.saver.fault))
        if failed or self.saved_step != self.done:
            self.monitor.fault = None
            if self.saver:
                self.saver.fault = None
            self._save()
            if self.saver:
                self.saver.wait()
        try:
            distributed.agree(self.saver.fault if self.saver else None)
        except UserError as second:
            reason = "" if str(second).split(": ")[1:] == str(error).split(": ")[1:] else f": {second}"
            return PretrainError(
                f"{error}. The weights after step {self.done} of {self.last_step} could not be saved{reason}; "
                f"`--resume` continues from the newest good checkpoint in {self.plan.folder}"
            )
        return type(error)(
            f"{error}. The run is saved after step {self.done} of {self.last_step}: once this is repaired, the same "
            "command with --resume continues it there"
        )

    def _save(self, ends_epoch: bool = False) -> None:
        """Save a checkpoint of the position; every rank takes part.

        Args:
            ends_epoch: the checkpoint is that of the epoch, whose validation may follow; False: one within the epoch.
        """
        self._flush_checks(self.done)
        distributed.share_batchnorm_statistics(self.model)
        steps = self.epoch_steps
        finished, epoch = self.done // steps, max(self.done - 1, 0) // steps
        content = {
            "epoch": finished,
            "arch": self.settings.model.arch,
            "state_dict": published_state(self.model),
            "optimizer": self.optimizer.state_dict(),
            "moco_transfer": self._state(),
        }
        self.saved_step = self.done
        milestone = ends_epoch and is_milestone(self.settings, finished)
        if self.saver:
            name = moco_file.file_name(epoch, None if ends_epoch else self.done)
            self.saver.save(name, content, finished, self.done, milestone)

    def _state(self) -> dict[str, Any]:
        """The state that a bit-exact resume needs beside the published content."""
        return {
            "config": config_io.flat(self.settings),
            "images": self.plan.images.size,
            "digest": self.plan.images.digest,
            "weights": self.plan.began_from,
            "world_size": distributed.world_size(),
            "threads": torch.get_num_threads(),
            "step": self.done,
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
        """The disk's fault that this rank has met since the last agreement, if any."""
        return self.monitor.fault or (self.saver.fault if self.saver else None)

    def _diagnostics(self, done: int, result: Result) -> dict[str, Any]:
        """Return numbers that distinguish a run that learns from one that has collapsed or leaks."""
        numbers: dict[str, Any] = diagnostics.diagnose_features(result.query, result.positive, self.model.negatives)
        numbers["gradient_norm"] = result.gradient_norm
        numbers.update(self.model.diagnostics(done, self.settings.optim.batch_size))
        if self.step.scaler.is_enabled():
            numbers["loss_scale"] = self.step.scaler.get_scale()
        return {**numbers, "broken_images": self.broken.count}
