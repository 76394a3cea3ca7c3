"""The training loop of the torchvision engine."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from fvcore.common.config import CfgNode
from torch import Tensor, nn

from pretrain.runtime import distributed
from pretrain.runtime.errors import UserError
from pretrain.runtime.hangs import clock
from pretrain.runtime.metrics_file import Follow
from pretrain.runtime.periodic_work import every
from pretrain.runtime.signals import Stopped, StopRequest
from transfer.data.common.dataset import Dataset
from transfer.engines import KEEP_CHECKPOINTS, MAX_BROKEN, Evaluate
from transfer.engines.common import precise_bn, rng_state
from transfer.engines.common.after_iteration import AfterIteration
from transfer.engines.common.arithmetic import arithmetic, check_loss_scale, diverged
from transfer.engines.common.batches import check_shares
from transfer.engines.common.broken_images import BrokenImages
from transfer.engines.common.checkpoints import BROKEN, Checkpoints, Part
from transfer.engines.common.metrics import PERIOD, flatten_scores, open_metrics, write_row
from transfer.engines.torchvision import solver
from transfer.engines.torchvision.build import (
    build_model,
    build_optimizer,
    build_repeat_factors,
    build_schedule,
    build_training_input,
)
from transfer.engines.torchvision.data.loader import TrainingBatches, usable
from transfer.engines.torchvision.metrics import TrainingProgress, UnreadLosses, Window
from transfer.engines.torchvision.predictor import make_predictor
from transfer.errors import refuse
from transfer.results import Scores


def train(
    cfg: CfgNode,
    dataset: Dataset,
    initial: Mapping[str, Tensor],
    evaluate: Evaluate,
    resume: bool,
    checkpoint_extra: Mapping[str, Any],
    stop: StopRequest | None = None,
    keep_checkpoints: int = KEEP_CHECKPOINTS,
    max_broken: float = MAX_BROKEN,
    follow: Follow | None = None,
) -> Scores:
    """Fine-tune a detector; see transfer.engines.Engine.train."""
    check_shares(cfg, distributed.world_size())
    with arithmetic(cfg):
        return Trainer(
            cfg, dataset, initial, evaluate, checkpoint_extra, resume, stop, keep_checkpoints, max_broken, follow
        ).run()


class Trainer:
    """A training run: the model, its optimizer, its data, and the files it writes.

    The arguments are those of transfer.engines.Engine.train.
    """

    def __init__(
        self,
        cfg: CfgNode,
        dataset: Dataset,
        initial: Mapping[str, Tensor],
        evaluate: Evaluate,
        checkpoint_extra: Mapping[str, Any],
        resume: bool,
        stop: StopRequest | None = None,
        keep_checkpoints: int = KEEP_CHECKPOINTS,
        max_broken: float = MAX_BROKEN,
        follow: Follow | None = None,
    ) -> None:
        self.cfg, self.evaluate, self.stop = cfg, evaluate, stop or StopRequest()
        self.device = distributed.select_device(cfg.MODEL.DEVICE)
        torch.manual_seed(cfg.SEED + distributed.rank())
        self.model = build_model(cfg)
        load_initial(self.model, initial)
        self.model.to(self.device)
        self.optimizer = build_optimizer(cfg, self.model)
        self.scheduler = solver.Scheduler(self.optimizer, build_schedule(cfg))
        self.scaler = torch.amp.GradScaler(enabled=cfg.SOLVER.AMP.ENABLED and self.device.type == "cuda")
        min_keypoints = cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE if cfg.MODEL.KEYPOINT_ON else 0
        self.records = usable(dataset.records, cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS, min_keypoints)
        self.factors = build_repeat_factors(cfg, self.records)
        self.broken = BrokenImages(self.records, max_broken)
        self.window, self.losses = Window(), UnreadLosses()
        self.last: dict[str, float] = {}  # the values that were read last
        self.reads_each_iteration = self.device.type == "cpu"  # which costs nothing there
        self.scores: Scores | None = None  # of the last test
        output = Path(cfg.OUTPUT_DIR)
        parts: dict[str, Part] = {
            "optimizer": self.optimizer,
            "scheduler": self.scheduler,
            "scaler": self.scaler,
            "window": self.window,
            BROKEN: self.broken,
        }
        checkpoints = Checkpoints(output, self.model, parts, checkpoint_extra, keep_checkpoints)
        precise = cfg.TEST.PRECISE_BN.ENABLED
        self.work = AfterIteration(cfg, checkpoints, self._update_statistics if precise else None, self._test)
        if resume:
            self.work.resume()
        self.parallel = distributed.data_parallel(self.model)
        self.metrics = open_metrics(output, self.work.done, bool(self.work.pending), True, follow)
        self.progress = TrainingProgress(self.work.done, cfg.SOLVER.MAX_ITER, shown=distributed.is_main())

    def run(self) -> Scores:
        """Iterate to SOLVER.MAX_ITER; test and save when it is due. Returns the scores of the last test."""
        self.model.train()
        try:
            with self.progress, clock.within("training"):
                self.work.run_pending()
                self._iterate(range(self.work.done, self.cfg.SOLVER.MAX_ITER))
        except Stopped:
            self._read_losses()  # so that nothing is saved of a training that has diverged
            raise self.work.stopped() from None
        except UserError as error:
            self._read_losses()
            raise self.work.interrupted(error) from error
        except RuntimeError:
            self._read_losses()  # the cause may be weights that are not finite since a loss that is unread
            raise
        if self.scores is None:
            raise RuntimeError("the training ended without a test")
        return dataclasses.replace(self.scores, replaced_images=self.broken.count)

    def _iterate(self, iterations: range) -> None:
        if not iterations:
            return
        batches = self._batches(iterations.start, self.cfg.DATALOADER.NUM_WORKERS)
        with contextlib.closing(iter(batches)) as samples:
            for iteration in iterations:
                self._step(iteration, samples)
                self.progress.advance(iteration, self.last)
                if every(PERIOD, iterations.stop)(iteration + 1):
                    means = self.window.take()
                    self.progress.print_row(iteration, means)
                    write_row(self.metrics, {"iteration": iteration, **means})
                self.work.advance()

    def _step(self, iteration: int, samples: Iterator[list[Any]]) -> None:
        """Do one iteration. Its losses are read after the backward pass, where they are due; its times are kept."""
        begun = time.perf_counter()
        batch = next(samples)
        self.work.begin_step()
        lr = self.scheduler.set_lr(iteration)
        loaded = time.perf_counter()
        with self._precision():
            losses = self.parallel(batch)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(sum(losses.values())).backward()
        self.losses.keep(iteration, losses)
        if read := self._losses_are_due(iteration + 1):
            self._read_losses()
        clip = self.cfg.SOLVER.CLIP_GRADIENTS
        if clip.ENABLED:
            self.scaler.unscale_(self.optimizer)
            solver.clip_gradients(self.model.parameters(), clip.CLIP_TYPE, clip.CLIP_VALUE, clip.NORM_TYPE)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if read:
            check_loss_scale(self.scaler, iteration)
        times = {"lr": lr, "data_time": loaded - begun, "time": time.perf_counter() - begun}
        self.window.add(times)
        self.last |= times

    def _losses_are_due(self, done: int) -> bool:
        """Return whether the losses are read after `done` iterations: before all that writes or saves.

        On a CPU they are there after every iteration.
        """
        writes = every(PERIOD, self.cfg.SOLVER.MAX_ITER)(done) or self.work.is_due(done)
        return self.reads_each_iteration or writes

    def _read_losses(self) -> None:
        """Read the losses that are unread, for the row of metrics.json and for the progress bar.

        Raises:
            TransferError: on every rank, where one of them is not finite; names its iteration.
        """
        for iteration, values in self.losses.read():
            total = sum(values.values())
            if not math.isfinite(total):
                listed = ", ".join(f"{name} {value}" for name, value in values.items())
                raise diverged(self.cfg, iteration, f"the loss is not finite ({listed})")
            self.last = {**self.last, **values, "total_loss": total}
            self.window.add({**values, "total_loss": total}, iterations=0)

    def _update_statistics(self, _: int) -> None:
        precise_bn.update_statistics(self.model, self._batches(0, workers=0), self.cfg.TEST.PRECISE_BN.NUM_ITER)

    def _test(self, done: int) -> None:
        distributed.share_batchnorm_statistics(self.model)
        self.model.eval()
        with rng_state.preserve_rng_state(), self.progress.paused():
            self.scores = self.evaluate(make_predictor(self.model, self.cfg))
        self.model.train()
        write_row(self.metrics, {"iteration": done - 1, **flatten_scores(self.scores.metrics)})

    def _batches(self, skip: int, workers: int) -> TrainingBatches:
        return TrainingBatches(
            self.records,
            build_training_input(self.cfg),
            batch_size=self.cfg.SOLVER.IMS_PER_BATCH // distributed.world_size(),
            seed=self.cfg.SEED,
            factors=self.factors,
            group=self.cfg.DATALOADER.ASPECT_RATIO_GROUPING,
            rank=distributed.rank(),
            world_size=distributed.world_size(),
            skip=skip,
            workers=workers,
            stop=self.stop,
            broken=self.broken,
        )

    def _precision(self) -> contextlib.AbstractContextManager[Any]:
        if not self.cfg.SOLVER.AMP.ENABLED:
            return contextlib.nullcontext()
        dtype = torch.float16 if self.device.type == "cuda" else torch.bfloat16  # a CPU has no fast float16
        return torch.autocast(self.device.type, dtype=dtype)


def load_initial(model: nn.Module, initial: Mapping[str, Tensor]) -> None:
    """Load tensors by Detectron2's names over the model's random ones; the model must have each of them.

    Raises:
        TransferError: names each tensor that the model lacks or has in another shape.
    """
    state = model.state_dict()
    refuse(
        [
            f"initial weights: {name} {tuple(value.shape)}, the model has "
            + (f"{tuple(state[name].shape)}" if name in state else "no tensor of that name")
            for name, value in initial.items()
            if name not in state or state[name].shape != value.shape
        ]
    )
    model.load_state_dict(dict(initial), strict=False)
