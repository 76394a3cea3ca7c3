"""The training loop."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from fvcore.common.config import CfgNode
from torch import Tensor

from pretrain import distributed
from transfer.datasets import Dataset
from transfer.engines import Predict
from transfer.engines.torchvision import checkpoints, precise_bn, solver
from transfer.engines.torchvision.build import build_model, build_optimizer, build_schedule, build_training_input
from transfer.engines.torchvision.detector import Sample
from transfer.engines.torchvision.loader import TrainingBatches, usable
from transfer.engines.torchvision.metrics import PERIOD, MetricsFile, Window, flatten
from transfer.engines.torchvision.predictor import make_predictor
from transfer.engines.torchvision.progress import TrainingProgress
from transfer.errors import TransferError

Evaluate = Callable[[Predict], dict[str, dict[str, float | None]]]


def train(
    cfg: CfgNode,
    dataset: Dataset,
    initial: Mapping[str, Tensor],
    evaluate: Evaluate,
    resume: bool,
    checkpoint_extra: Mapping[str, Any],
) -> None:
    """Train a detector and leave it, its checkpoints and metrics.json in cfg.OUTPUT_DIR. Called by every rank.

    Args:
        cfg: checked, with the data's NUM_CLASSES, a SEED >= 0, a real DEVICE and an OUTPUT_DIR that exists.
        dataset: to train on.
        initial: tensors by Detectron2's full names, loaded over the random start.
        evaluate: scores a detector, called by every rank each TEST.EVAL_PERIOD iterations and at the end.
        resume: go on from the folder's last checkpoint.
        checkpoint_extra: kept in every checkpoint beside the tensors.

    Raises:
        TransferError: bad data, nothing to resume, or a loss that is not finite.
    """
    Trainer(cfg, dataset, initial, evaluate, checkpoint_extra, resume).run()


class Trainer:
    """A run: the model, what changes it, and where it writes. Arguments as of `train`."""

    def __init__(
        self,
        cfg: CfgNode,
        dataset: Dataset,
        initial: Mapping[str, Tensor],
        evaluate: Evaluate,
        checkpoint_extra: Mapping[str, Any],
        resume: bool,
    ) -> None:
        self.cfg, self.evaluate, self.extra, self.output = cfg, evaluate, checkpoint_extra, Path(cfg.OUTPUT_DIR)
        self.device = prepare_device(cfg)
        torch.manual_seed(cfg.SEED + distributed.rank())
        self.model = build_model(cfg)
        checkpoints.load_initial(self.model, initial)
        self.model.to(self.device)
        self.optimizer = build_optimizer(cfg, self.model)
        self.schedule = build_schedule(cfg)
        self.scaler = torch.amp.GradScaler(enabled=cfg.SOLVER.AMP.ENABLED and self.device.type == "cuda")
        min_keypoints = cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE if cfg.MODEL.KEYPOINT_ON else 0
        self.records = usable(dataset.records, cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS, min_keypoints)
        self.first = 0
        if resume:
            self.first = checkpoints.resume(self.output, self.model, self.optimizer, self.scaler)
        self.parallel = distributed.data_parallel(self.model)
        self.metrics = distributed.on_main(lambda: MetricsFile(self.output / "metrics.json", self.first))

    def run(self) -> None:
        """Iterate to SOLVER.MAX_ITER; test and save when it is time."""
        last, window = self.cfg.SOLVER.MAX_ITER, Window()
        self.model.train()
        with TrainingProgress(self.first, last, shown=distributed.is_main()) as progress:
            samples = (
                iter(self._batches(self.first, self.cfg.DATALOADER.NUM_WORKERS)) if self.first < last else iter(())
            )
            for iteration in range(self.first, last):
                values = self._step(iteration, samples)
                window.add(values)
                progress.advance(iteration, values)
                if _is_due(iteration, PERIOD, last):
                    self._write({"iteration": iteration, **window.take()})
                if _is_due(iteration, self.cfg.TEST.EVAL_PERIOD, last) and self.cfg.TEST.PRECISE_BN.ENABLED:
                    precise_bn.update(self.model, self._batches(0, workers=0), self.cfg.TEST.PRECISE_BN.NUM_ITER)
                if _is_due(iteration, self.cfg.SOLVER.CHECKPOINT_PERIOD, last):
                    self._save(iteration)
                if _is_due(iteration, self.cfg.TEST.EVAL_PERIOD, last) and iteration + 1 < last:
                    with progress.paused():
                        self._test(iteration)
        self._test(last - 1)

    def _step(self, iteration: int, samples: Iterator[list[Sample]]) -> dict[str, float]:
        """One iteration. Returns its losses (means over the ranks), learning rate and times in seconds."""
        begun = time.perf_counter()
        lr = solver.set_lr(self.optimizer, self.schedule(iteration))
        batch = next(samples)
        loaded = time.perf_counter()
        with self._precision():
            losses = self.parallel(batch)
        values = _checked(losses, iteration)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(sum(losses.values())).backward()
        clip = self.cfg.SOLVER.CLIP_GRADIENTS
        if clip.ENABLED:
            self.scaler.unscale_(self.optimizer)
            solver.clip_gradients(self.model.parameters(), clip.CLIP_TYPE, clip.CLIP_VALUE, clip.NORM_TYPE)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return {**values, "lr": lr, "data_time": loaded - begun, "time": time.perf_counter() - begun}

    def _save(self, iteration: int) -> None:
        self._agree_on_statistics()
        args = (iteration, self.model, self.optimizer, self.scaler, self.extra)
        if (iteration + 1) % self.cfg.SOLVER.CHECKPOINT_PERIOD == 0:
            checkpoints.save(self.output, checkpoints.file_name(iteration), *args)
        if iteration + 1 == self.cfg.SOLVER.MAX_ITER:
            checkpoints.save(self.output, checkpoints.FINAL, *args)

    def _test(self, iteration: int) -> None:
        self._agree_on_statistics()
        self.model.eval()
        results = self.evaluate(make_predictor(self.model, self.cfg))
        self.model.train()
        self._write({"iteration": iteration, **flatten(results)})

    def _write(self, row: Mapping[str, float | None]) -> None:
        if distributed.is_main():
            self.metrics.write(row)

    def _agree_on_statistics(self) -> None:
        """Test and save one model: BN that is not synchronised runs apart on the ranks, and rank 0's is kept."""
        distributed.broadcast(list(self.model.buffers()))

    def _batches(self, skip: int, workers: int) -> TrainingBatches:
        return TrainingBatches(
            self.records,
            build_training_input(self.cfg),
            batch_size=images_per_rank(self.cfg.SOLVER.IMS_PER_BATCH, distributed.world_size()),
            seed=self.cfg.SEED,
            group=self.cfg.DATALOADER.ASPECT_RATIO_GROUPING,
            rank=distributed.rank(),
            world_size=distributed.world_size(),
            skip=skip,
            workers=workers,
        )

    def _precision(self) -> contextlib.AbstractContextManager[Any]:
        if not self.cfg.SOLVER.AMP.ENABLED:
            return contextlib.nullcontext()
        dtype = torch.float16 if self.device.type == "cuda" else torch.bfloat16  # a CPU has no fast float16
        return torch.autocast(self.device.type, dtype=dtype)


def prepare_device(cfg: CfgNode) -> torch.device:
    """This process's device, with cuDNN and matrix products set as the configuration says."""
    if cfg.FLOAT32_PRECISION:
        torch.set_float32_matmul_precision(cfg.FLOAT32_PRECISION)
    torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK
    return distributed.select_device(cfg.MODEL.DEVICE)


def images_per_rank(images: int, processes: int) -> int:
    """The share of each process in a batch of `images`; TransferError where they cannot share it evenly."""
    if images % processes:
        raise TransferError(f"SOLVER.IMS_PER_BATCH: {images} images cannot be shared by {processes} processes")
    return images // processes


def _is_due(iteration: int, period: int, last: int) -> bool:
    """Whether what happens each `period` iterations (0: never) and at the end happens after this one."""
    return iteration + 1 == last or (period > 0 and (iteration + 1) % period == 0)


def _checked(losses: dict[str, Tensor], iteration: int) -> dict[str, float]:
    """The losses as numbers, means over the ranks, and their sum. One that is not finite stops every rank."""
    stacked = distributed.mean(torch.stack([loss.detach().float() for loss in losses.values()]))
    values = dict(zip(losses, stacked.tolist(), strict=True))
    total = sum(values.values())
    if not math.isfinite(total):
        listed = ", ".join(f"{name} {value}" for name, value in values.items())
        raise TransferError(
            f"iteration {iteration}: the loss is not finite ({listed}). "
            "Lower SOLVER.BASE_LR or raise SOLVER.WARMUP_ITERS"
        )
    return {**values, "total_loss": total}
