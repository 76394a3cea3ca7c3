"""The training as Detectron2's DefaultTrainer does it, which can be stopped and resumed."""

import contextlib
import dataclasses
import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pretrain.runtime import distributed
from pretrain.runtime.errors import UserError
from pretrain.runtime.hangs import clock
from pretrain.runtime.metrics_file import Follow
from pretrain.runtime.periodic_work import every
from pretrain.runtime.signals import Stopped, StopRequest
from transfer.config import resolve
from transfer.data.common.dataset import Dataset
from transfer.engines import KEEP_CHECKPOINTS, MAX_BROKEN, Evaluate
from transfer.engines.common import precise_bn, rng_state
from transfer.engines.common.after_iteration import AfterIteration
from transfer.engines.common.arithmetic import arithmetic, check_loss_scale, diverged
from transfer.engines.common.batches import check_shares
from transfer.engines.common.checkpoints import BROKEN, Checkpoints, Part
from transfer.engines.common.metrics import PERIOD, flatten_scores, open_metrics, write_row
from transfer.engines.common.semantic_input import check_semantic_training
from transfer.engines.detectron2.data import SAMPLERS, TrainingData
from transfer.engines.detectron2.models import build_model
from transfer.engines.detectron2.predictor import make_predictor
from transfer.engines.detectron2.quiet import quiet
from transfer.errors import TransferError
from transfer.results import Scores

with quiet():
    import detectron2.utils.comm as comm
    from detectron2.config import CfgNode
    from detectron2.engine import AMPTrainer, HookBase, SimpleTrainer, hooks
    from detectron2.solver import build_lr_scheduler, build_optimizer
    from detectron2.utils.env import seed_all_rng
    from detectron2.utils.events import CommonMetricPrinter, EventStorage, TensorboardXWriter
    from fvcore.nn.precise_bn import get_bn_modules


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
    _join_local_processes()
    check_training(cfg, comm.get_world_size())
    seed_all_rng(cfg.SEED + comm.get_rank())
    model = build_model(cfg)
    _load_over(model, initial)
    optimizer = build_optimizer(cfg, model)
    scheduler = build_lr_scheduler(cfg, optimizer)
    scaler = {"grad_scaler": torch.amp.GradScaler("cuda")} if cfg.SOLVER.AMP.ENABLED else {}
    data = TrainingData(cfg, dataset, stop or StopRequest(), max_broken)
    seed_all_rng(cfg.SEED + comm.get_rank())
    parts = {"optimizer": optimizer, "scheduler": scheduler, **scaler, BROKEN: data.broken}
    after = AfterStep(cfg, model, parts, data, evaluate, checkpoint_extra, resume, keep_checkpoints, follow)
    after.scaler = scaler.get("grad_scaler")
    first, parallel = after.work.done, distributed.data_parallel(model)
    try:
        with (
            arithmetic(cfg),
            quiet(),
            _without_fusion(),
            clock.within("training"),
            contextlib.closing(data.batches(first, cfg.DATALOADER.NUM_WORKERS)) as batches,
        ):
            steps = _marked(batches, after.work)
            trainer = (_AMPTrainer if scaler else _Trainer)(parallel, steps, optimizer, **scaler)
            trainer.register_hooks(  # in DefaultTrainer's order
                [
                    hooks.IterationTimer(warmup_iter=0),
                    hooks.LRScheduler(optimizer, scheduler),
                    _printer(cfg),
                    after,
                    _tensorboard(cfg, first),
                ]
            )
            trainer.train(first, cfg.SOLVER.MAX_ITER)
    except FloatingPointError as error:
        raise diverged(cfg, trainer.iter, str(error).rstrip(".")) from error
    except Stopped:
        raise after.work.stopped() from None
    except UserError as error:
        raise after.work.interrupted(error) from error
    if after.scores is None:
        raise RuntimeError("the training ended without a test")
    return dataclasses.replace(after.scores, replaced_images=data.broken.count)


class _Trainer(SimpleTrainer):
    """Detectron2's step, in which rank 0 alone checks the loss, and by itself would end alone."""

    def _write_metrics(self, *losses: Any, **options: Any) -> None:
        fault = None
        try:
            super()._write_metrics(*losses, **options)
        except FloatingPointError as error:
            fault = error
        distributed.agree(fault)


class _AMPTrainer(_Trainer, AMPTrainer):
    """The same with AMP."""


def _marked(batches: Iterator[Any], work: AfterIteration) -> Iterator[Any]:
    """Yield the batches; the step of each has begun when it is taken."""
    for batch in batches:
        work.begin_step()
        yield batch


class AfterStep(HookBase):
    """The hook after each iteration: it writes a row of metrics.json, and does the work that is due.

    Its state is the storage's history, so that medians of a resumed run are over the same iterations.
    """

    def __init__(
        self,
        cfg: CfgNode,
        model: nn.Module,
        parts: Mapping[str, Part],
        data: TrainingData,
        evaluate: Evaluate,
        extra: Mapping[str, Any],
        resume: bool,
        keep_checkpoints: int,
        follow: Follow | None,
    ) -> None:
        self.cfg, self.model, self.data, self.evaluate = cfg, model, data, evaluate
        self.history: dict[str, Any] = {}  # of a resumed run
        self.scores: Scores | None = None  # of the last test
        self.scaler: torch.amp.GradScaler | None = None  # of half precision
        output = Path(cfg.OUTPUT_DIR)
        precise = cfg.TEST.PRECISE_BN.ENABLED and get_bn_modules(model)
        checkpoints = Checkpoints(output, model, {**parts, "history": self}, extra, keep_checkpoints)
        self.work = AfterIteration(cfg, checkpoints, self._update_statistics if precise else None, self._test)
        if resume:
            self.work.resume()
        # Detectron2 has a writer of its own for TensorBoard.
        self.metrics = open_metrics(output, self.work.done, bool(self.work.pending), False, follow)

    def before_train(self) -> None:
        for name, (smooth, values) in self.history.items():
            for value, iteration in values:
                self.trainer.storage.put_scalar(name, value, smoothing_hint=smooth, cur_iter=iteration)
        self.work.run_pending()

    def after_step(self) -> None:
        iteration = self.trainer.iter
        if self.scaler is not None:
            check_loss_scale(self.scaler, iteration)
        if every(PERIOD, self.cfg.SOLVER.MAX_ITER)(iteration + 1):
            newest = self.trainer.storage.latest_with_smoothing_hint(PERIOD)  # medians, as in Detectron2's own writer
            self._write(iteration, {name: value for name, (value, when) in newest.items() if when == iteration})
        self.work.advance()

    def state_dict(self) -> dict[str, Any]:
        storage = self.trainer.storage
        return {
            name: (
                smooth,
                [pair for pair in storage.history(name).values() if pair[1] >= self.work.done - PERIOD],
            )
            for name, smooth in storage.smoothing_hints().items()
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.history = state_dict

    def _update_statistics(self, done: int) -> None:
        period, iterations = self.cfg.TEST.EVAL_PERIOD, self.cfg.TEST.PRECISE_BN.NUM_ITER
        earlier = (done - 1) // period if period > 0 else 0  # each takes the next images, as Detectron2's hook does
        with EventStorage():  # what the model logs of these images is dropped
            precise_bn.update_statistics(self.model, self.data.batches(earlier * iterations, workers=0), iterations)

    def _test(self, done: int) -> None:
        distributed.share_batchnorm_statistics(self.model)
        with rng_state.preserve_rng_state():
            self.model.eval()
            self.scores = self.evaluate(make_predictor(self.cfg, self.model))
            self.model.train()
        values = {name: value for name, value in flatten_scores(self.scores.metrics).items() if value is not None}
        self._write(done - 1, values)
        self.trainer.storage.put_scalars(cur_iter=done - 1, smoothing_hint=False, **values)

    def _write(self, iteration: int, values: Mapping[str, float | None]) -> None:
        write_row(self.metrics, {"iteration": iteration, **values})


@contextlib.contextmanager
def _without_fusion() -> Iterator[None]:
    """Keep TorchScript (RetinaNet's focal loss) from fusing, which it does from the third call on.

    It then rounds otherwise, and a run resumed in another process would not have the same numbers.
    """
    with torch.jit.optimized_execution(False):
        yield


def _load_over(model: nn.Module, initial: Mapping[str, Tensor]) -> None:
    result = model.load_state_dict(dict(initial), strict=False)
    if result.unexpected_keys:
        raise TransferError(f"the model has no {', '.join(result.unexpected_keys)}")


def check_training(cfg: CfgNode, processes: int) -> None:
    """Raise TransferError for settings that cannot be trained with; see transfer.engines.Engine.check_training."""
    check_shares(cfg, processes)
    if cfg.DATALOADER.SAMPLER_TRAIN not in SAMPLERS:
        raise TransferError(
            f"DATALOADER.SAMPLER_TRAIN {cfg.DATALOADER.SAMPLER_TRAIN}: choose one of {', '.join(SAMPLERS)} (--labels "
            "trains on a part of the images)"
        )
    if resolve.is_semantic(cfg):
        check_semantic_training(cfg)
    if cfg.SOLVER.AMP.ENABLED and not str(cfg.MODEL.DEVICE).startswith("cuda"):
        raise TransferError(f"SOLVER.AMP.ENABLED True needs a GPU, MODEL.DEVICE is {cfg.MODEL.DEVICE}")


def _join_local_processes() -> None:
    """Make Detectron2's group of the ranks of this machine, as its own launch() does."""
    if comm.get_world_size() > 1:
        comm.create_local_process_group(distributed.local_world_size())


def _printer(cfg: CfgNode) -> HookBase | None:
    if not comm.is_main_process():
        return None
    return hooks.PeriodicWriter([CommonMetricPrinter(cfg.SOLVER.MAX_ITER)], period=PERIOD)


def _tensorboard(cfg: CfgNode, first: int) -> HookBase | None:
    """Return the writer of TensorBoard's events; it hides those of an interrupted run from iteration `first` on.

    It comes after AfterStep, so that the scores are shown at once.
    """
    if not (comm.is_main_process() and importlib.util.find_spec("tensorboard")):
        return None
    return hooks.PeriodicWriter([TensorboardXWriter(cfg.OUTPUT_DIR, purge_step=first)], period=PERIOD)
