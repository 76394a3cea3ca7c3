"""The engine of record: the real Detectron2, built or as an unbuilt checkout. The one module that imports it.

Importing it registers what MoCo's recipes need beyond Detectron2's own parts: Res5ROIHeadsExtraNorm, the head of C4
models, and build_resnet_dilated_c5_backbone.
"""

import contextlib
import importlib.metadata
import importlib.util
import itertools
import json
import logging
import subprocess
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pretrain import distributed, signals
from pretrain.signals import StopRequest
from transfer import config as vocabulary
from transfer import weights as weight_files
from transfer.datasets import Dataset, read_image
from transfer.detections import Detections
from transfer.engines import Predict, generators, precise_bn
from transfer.engines.batches import Batches
from transfer.engines.checkpoints import Checkpoints, Part, share_statistics
from transfer.engines.course import Course, is_due
from transfer.engines.metric_rows import PERIOD, MetricRows, flatten
from transfer.errors import TransferError
from transfer.stop import Stopped, asked


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what Detectron2's own code makes torch warn about."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`torch.jit.script` is deprecated", category=FutureWarning)
        warnings.filterwarnings("ignore", message="torch.meshgrid: in an upcoming release", category=UserWarning)
        yield


with _quiet():
    import detectron2
    import detectron2.utils.comm as comm
    import fvcore.nn.weight_init as weight_init
    from detectron2.config import CfgNode, get_cfg
    from detectron2.data import DatasetMapper, build_detection_train_loader
    from detectron2.data import transforms as T
    from detectron2.data.build import filter_images_with_few_keypoints, filter_images_with_only_crowd_annotations
    from detectron2.data.samplers import (
        RandomSubsetTrainingSampler,
        RepeatFactorTrainingSampler,
        TrainingSampler,
    )
    from detectron2.engine import AMPTrainer, HookBase, SimpleTrainer, hooks
    from detectron2.layers import Conv2d, ShapeSpec, get_norm
    from detectron2.modeling import BACKBONE_REGISTRY, ROI_HEADS_REGISTRY, Backbone, build_model, build_resnet_backbone
    from detectron2.modeling.roi_heads import Res5ROIHeads
    from detectron2.solver import build_lr_scheduler, build_optimizer
    from detectron2.structures import Instances
    from detectron2.utils.env import seed_all_rng
    from detectron2.utils.events import CommonMetricPrinter, EventStorage, TensorboardXWriter
    from fvcore.nn.precise_bn import get_bn_modules

NAME = "detectron2"

log = logging.getLogger(__name__)

Evaluate = Callable[[Predict], Mapping[str, Mapping[str, float | None]]]

# Every exception in training ends the run and is told once, at the top; Detectron2 would log its traceback as well.
logging.getLogger("detectron2.engine.train_loop").addFilter(lambda record: not record.exc_info)


@ROI_HEADS_REGISTRY.register()
class Res5ROIHeadsExtraNorm(Res5ROIHeads):
    """The C4 head of the MoCo paper (arXiv 1911.05722): one more norm after res5, named roi_heads.res5.norm.*."""

    @classmethod
    def _build_res5_block(cls, cfg: CfgNode) -> tuple[nn.Sequential, int]:
        stage, channels = super()._build_res5_block(cfg)
        stage.add_module("norm", get_norm(cfg.MODEL.RESNETS.NORM, channels))
        return stage, channels


class DilatedC5(Backbone):
    """The dilated-C5 backbone of the MoCo paper (appendix A.1): res5, then a 3x3 convolution with a norm to 512."""

    def __init__(self, bottom_up: Backbone, norm: str) -> None:
        super().__init__()
        self.bottom_up = bottom_up
        channels, self._stride = bottom_up.output_shape()["res5"].channels, bottom_up.output_shape()["res5"].stride
        self.reduce = Conv2d(
            channels, 512, 3, padding=1, bias=False, norm=get_norm(norm, 512), activation=torch.nn.functional.relu
        )
        weight_init.c2_msra_fill(self.reduce)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"res5": self.reduce(self.bottom_up(images)["res5"])}

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {"res5": ShapeSpec(channels=512, stride=self._stride)}


@BACKBONE_REGISTRY.register()
def build_resnet_dilated_c5_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> DilatedC5:
    """MoCo's dilated C5 on MODEL.RESNETS, whose RES5_DILATION is 2."""
    return DilatedC5(build_resnet_backbone(cfg, input_shape), cfg.MODEL.RESNETS.NORM)


def load_config(config_file: Path | None, overrides: Sequence[str]) -> CfgNode:
    """Detectron2's configuration with a YAML file and KEY VALUE pairs over its defaults.

    Raises TransferError naming every unknown key and wrong type, and for a C4 model on basic blocks.
    """
    cfg = get_cfg()
    vocabulary.merge(cfg, config_file, overrides)
    resnet, heads = cfg.MODEL.RESNETS, cfg.MODEL.ROI_HEADS.NAME
    if resnet.DEPTH in (18, 34) and heads.startswith("Res5ROIHeads"):
        raise TransferError(
            f"MODEL.RESNETS.DEPTH {resnet.DEPTH} with MODEL.ROI_HEADS.NAME {heads}: a C4 head is built of bottleneck "
            "blocks, which this ResNet has not. Use an FPN config, or depth 50, 101 or 152"
        )
    return cfg


def versions() -> dict[str, str]:
    """Detectron2's version, with its commit where it is known, and torch's."""
    commit = _commit()
    version = str(detectron2.__version__) + (f" ({commit[:12]})" if commit else "")
    return {"detectron2": version, "torch": torch.__version__, "torchvision": importlib.metadata.version("torchvision")}


def model_state(cfg: CfgNode) -> dict[str, Tensor]:
    """Names and shapes of the model's tensors, on the meta device: nothing is computed."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        return dict(_build(cfg).state_dict())


def load_predictor(cfg: CfgNode, weights: Path) -> Predict:
    """A detector from the file `weights`, ready to be called. TransferError listing every tensor that does not fit."""
    model = _build(cfg)
    model.load_state_dict(weight_files.read_detector(weights, model.state_dict()))
    model.eval()
    return lambda records: _predict(cfg, model, records)


def train(
    cfg: CfgNode,
    dataset: Dataset,
    initial: Mapping[str, Tensor],
    evaluate: Evaluate,
    resume: bool,
    checkpoint_extra: dict[str, Any],
    stop: StopRequest | None = None,
) -> None:
    """Fine-tune on `dataset` as Detectron2's DefaultTrainer does; called in every rank.

    Args:
        cfg: whole and settled: number of classes, seed, device, OUTPUT_DIR.
        initial: full names -> tensors to load over the random start, each of which the model must have.
        evaluate: scores a detector; called in every rank each TEST.EVAL_PERIOD iterations and at the end.
        resume: go on from the checkpoint that OUTPUT_DIR/last_checkpoint names.
        checkpoint_extra: kept in every checkpoint.
        stop: looked at between two batches; `evaluate` may obey it, too.

    Raises:
        TransferError: an unreadable image, a batch that the ranks cannot share, a loss that is not finite.
        PretrainError: there is nothing to resume.
        Stopped: by `stop`; the run is saved.
    """
    _join_local_processes()
    _check(cfg)
    seed_all_rng(cfg.SEED + comm.get_rank())
    torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK

    model = _build(cfg)
    _load_over(model, initial)
    optimizer = build_optimizer(cfg, model)
    scheduler = build_lr_scheduler(cfg, optimizer)
    scaler = {"grad_scaler": torch.amp.GradScaler("cuda")} if cfg.SOLVER.AMP.ENABLED else {}
    data = TrainingData(cfg, dataset, stop or StopRequest())
    seed_all_rng(cfg.SEED + comm.get_rank())
    parts = {"optimizer": optimizer, "scheduler": scheduler, **scaler}
    after = AfterStep(cfg, model, parts, data, evaluate, checkpoint_extra, resume)
    start, parallel = after.course.done, distributed.data_parallel(model)
    try:
        with (
            _quiet(),
            _same_from_the_first_step(),
            contextlib.closing(data.batches(start, cfg.DATALOADER.NUM_WORKERS)) as batches,
        ):
            trainer = (AMPTrainer if scaler else SimpleTrainer)(parallel, batches, optimizer, **scaler)
            trainer.register_hooks(  # in DefaultTrainer's order
                [
                    hooks.IterationTimer(warmup_iter=0),
                    hooks.LRScheduler(optimizer, scheduler),
                    _printer(cfg),
                    after,
                    _tensorboard(cfg, start),
                ]
            )
            trainer.train(start, cfg.SOLVER.MAX_ITER)
    except FloatingPointError as error:
        raise TransferError(f"training diverged: {error} A lower SOLVER.BASE_LR may help") from error
    except Stopped:
        raise after.course.stopped() from None


class AfterStep(HookBase):
    """What follows each iteration: a row of metrics.json, and what the course of the run says is due.

    Its state is the storage's history, so that medians of a resumed run are over the same iterations.
    """

    def __init__(
        self,
        cfg: CfgNode,
        model: nn.Module,
        parts: Mapping[str, Part],
        data: "TrainingData",
        evaluate: Evaluate,
        extra: Mapping[str, Any],
        resume: bool,
    ) -> None:
        self.cfg, self.model, self.data, self.evaluate = cfg, model, data, evaluate
        self.history: dict[str, Any] = {}  # to go on with
        output = Path(cfg.OUTPUT_DIR)
        precise = cfg.TEST.PRECISE_BN.ENABLED and get_bn_modules(model)
        checkpoints = Checkpoints(output, model, {**parts, "history": self}, extra)
        self.course = Course(cfg, checkpoints, self._update_statistics if precise else None, self._test)
        if resume:
            self.course.resume()
            data.warn_if_others_come()
        self.rows = distributed.on_main(
            lambda: MetricRows(output / "metrics.json", self.course.done, bool(self.course.pending))
        )

    def before_train(self) -> None:
        for name, (smooth, values) in self.history.items():
            for value, iteration in values:
                self.trainer.storage.put_scalar(name, value, smoothing_hint=smooth, cur_iter=iteration)
        self.course.settle()

    def after_step(self) -> None:
        iteration = self.trainer.iter
        if is_due(iteration + 1, PERIOD, self.cfg.SOLVER.MAX_ITER):
            newest = self.trainer.storage.latest_with_smoothing_hint(PERIOD)  # medians, as in Detectron2's own writer
            self._write(iteration, {name: value for name, (value, when) in newest.items() if when == iteration})
        self.course.advance()

    def state_dict(self) -> dict[str, Any]:
        storage = self.trainer.storage
        return {
            name: (smooth, [pair for pair in storage.history(name).values() if pair[1] >= self.course.done - PERIOD])
            for name, smooth in storage.smoothing_hints().items()
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.history = state_dict

    def _update_statistics(self, done: int) -> None:
        period, iterations = self.cfg.TEST.EVAL_PERIOD, self.cfg.TEST.PRECISE_BN.NUM_ITER
        earlier = (done - 1) // period if period > 0 else 0  # each goes on with the images, as Detectron2's hook does
        with EventStorage():  # what the model tells of these images goes nowhere
            precise_bn.update(self.model, self.data.batches(earlier * iterations, workers=0), iterations)

    def _test(self, done: int) -> None:
        share_statistics(self.model)
        with generators.kept():
            scores = flatten(_score(self.cfg, self.model, self.evaluate))
        self._write(done - 1, scores)
        self.trainer.storage.put_scalars(cur_iter=done - 1, smoothing_hint=False, **scores)

    def _write(self, iteration: int, values: Mapping[str, float | None]) -> None:
        if comm.is_main_process():
            self.rows.write({"iteration": iteration, **values})


class TrainingData:
    """The images to train on, as batches from any iteration on.

    Their order is that of Detectron2's sampler and of its grouping by shape, with any number of workers as Detectron2
    has it with one. What is random in an image comes of the seed and of its position in the order.
    """

    def __init__(self, cfg: CfgNode, dataset: Dataset, stop: StopRequest) -> None:
        self.cfg, self.stop, self.mapper = cfg, stop, Mapper(cfg)
        records = dataset.records
        if cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS:
            records = filter_images_with_only_crowd_annotations(records)
        if cfg.MODEL.KEYPOINT_ON:
            records = filter_images_with_few_keypoints(records, cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE)
        if not records:
            raise TransferError(f"DATASETS.TRAIN {', '.join(dataset.names)}: no image has an object to learn from")
        self.records = records

    def batches(self, skip: int, workers: int) -> Generator[list[dict[str, Any]], None, None]:
        """This rank's batches after the first `skip`, without end."""
        sampler = _sampler(self.cfg, self.records)
        if sampler is None:
            return self._detectron2s(workers)
        ranks = comm.get_world_size()
        batches = Batches(
            self.records,
            self.mapper.at,
            zip(itertools.count(comm.get_rank(), ranks), sampler),
            batch_size=self.cfg.SOLVER.IMS_PER_BATCH // ranks,
            group=self.cfg.DATALOADER.ASPECT_RATIO_GROUPING,
            skip=skip,
            workers=workers,
            stop=self.stop,
        )
        return iter(batches)

    def warn_if_others_come(self) -> None:
        """Say so where a resumed run does not go on with the images that it would have seen."""
        if self.cfg.DATALOADER.SAMPLER_TRAIN not in SAMPLERS and comm.is_main_process():
            log.warning(
                "DATALOADER.SAMPLER_TRAIN %s: the rest of the run sees other images than it would have seen",
                self.cfg.DATALOADER.SAMPLER_TRAIN,
            )

    def _detectron2s(self, workers: int) -> Generator[list[dict[str, Any]], None, None]:
        """From Detectron2's own loader, which begins anew each time."""
        cfg = self.cfg.clone()
        cfg.defrost()
        cfg.DATALOADER.NUM_WORKERS = workers
        loader = build_detection_train_loader(cfg, dataset=self.records, mapper=self.mapper)
        with signals.kept_from_children() if workers else contextlib.nullcontext():
            loaded = iter(loader)
            first = next(loaded)  # by now its workers are there
        for batch in itertools.chain([first], loaded):
            if asked(self.stop):
                raise Stopped("between two batches")
            yield batch


# Of those that a configuration can name, the ones that draw from a seed alone; Detectron2 makes the others.
SAMPLERS = ("TrainingSampler", "RepeatFactorTrainingSampler", "RandomSubsetTrainingSampler")


def _sampler(cfg: CfgNode, records: list[dict[str, Any]]) -> Iterable[int] | None:
    """The sampler of DATALOADER.SAMPLER_TRAIN, as Detectron2 sets it up; None: not one of SAMPLERS."""
    settings = cfg.DATALOADER
    if settings.SAMPLER_TRAIN == "TrainingSampler":
        return TrainingSampler(len(records), seed=cfg.SEED)
    if settings.SAMPLER_TRAIN == "RepeatFactorTrainingSampler":
        factors = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(
            records, settings.REPEAT_THRESHOLD, sqrt=settings.REPEAT_SQRT
        )
        return RepeatFactorTrainingSampler(factors, seed=cfg.SEED)
    if settings.SAMPLER_TRAIN == "RandomSubsetTrainingSampler":
        return RandomSubsetTrainingSampler(
            len(records), settings.RANDOM_SUBSET_RATIO, seed_shuffle=cfg.SEED, seed_subset=cfg.SEED
        )
    return None


class Mapper(DatasetMapper):
    """Detectron2's mapping of a record to a training example; a record it cannot map is the user's to repair."""

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__(cfg)
        self.seed = cfg.SEED

    def __call__(self, record: dict[str, Any]) -> dict[str, Any]:
        try:
            return super().__call__(record)
        except Exception as error:  # Pillow's decoders alone raise many kinds
            reason = f"{type(error).__name__}: {error}".strip()
            raise TransferError(f"{record['file_name']}: cannot be trained on ({reason})") from error

    def at(self, record: dict[str, Any], position: int) -> dict[str, Any]:
        """The example of a record at a position of the stream, which decides its augmentations with the seed."""
        before = np.random.get_state()
        np.random.seed([self.seed, position])  # the generator that Detectron2's augmentations draw from
        try:
            return self(record)
        finally:
            np.random.set_state(before)


@contextlib.contextmanager
def _same_from_the_first_step() -> Iterator[None]:
    """TorchScript (RetinaNet's focal loss) fuses from its third call on and then rounds otherwise: a run that goes on
    in another process would not go on exactly."""
    with torch.jit.optimized_execution(False):
        yield


def _build(cfg: CfgNode) -> nn.Module:
    try:
        return build_model(cfg)
    except (AssertionError, AttributeError, KeyError, ValueError) as error:
        reason = str(error).strip("'\"") or type(error).__name__
        raise TransferError(f"Detectron2 cannot build the model that the config describes: {reason}") from error


def _load_over(model: nn.Module, initial: Mapping[str, Tensor]) -> None:
    result = model.load_state_dict(dict(initial), strict=False)
    if result.unexpected_keys:
        raise TransferError(f"the model has no {', '.join(result.unexpected_keys)}")


def _check(cfg: CfgNode) -> None:
    ranks = comm.get_world_size()
    if cfg.SOLVER.IMS_PER_BATCH == 0 or cfg.SOLVER.IMS_PER_BATCH % ranks:
        raise TransferError(
            f"SOLVER.IMS_PER_BATCH {cfg.SOLVER.IMS_PER_BATCH} cannot be shared evenly by {ranks} processes"
        )
    if cfg.SOLVER.AMP.ENABLED and not str(cfg.MODEL.DEVICE).startswith("cuda"):
        raise TransferError(f"SOLVER.AMP.ENABLED True needs a GPU, MODEL.DEVICE is {cfg.MODEL.DEVICE}")


def _join_local_processes() -> None:
    """Make Detectron2's group of the ranks of this machine, as its own launch() would."""
    if comm.get_world_size() > 1:
        comm.create_local_process_group(distributed.local_world_size())


def _printer(cfg: CfgNode) -> HookBase | None:
    if not comm.is_main_process():
        return None
    return hooks.PeriodicWriter([CommonMetricPrinter(cfg.SOLVER.MAX_ITER)], period=PERIOD)


def _tensorboard(cfg: CfgNode, start: int) -> HookBase | None:
    """After AfterStep, so that its scores are shown at once. Of an interrupted run, what comes again is hidden."""
    if not (comm.is_main_process() and importlib.util.find_spec("tensorboard")):
        return None
    return hooks.PeriodicWriter([TensorboardXWriter(cfg.OUTPUT_DIR, purge_step=start)], period=PERIOD)


def _score(cfg: CfgNode, model: nn.Module, evaluate: Evaluate) -> dict[str, dict[str, float]]:
    model.eval()
    scores = evaluate(lambda records: _predict(cfg, model, records))
    model.train()
    return {task: {key: x for key, x in points.items() if x is not None} for task, points in scores.items()}


@torch.no_grad()
def _predict(cfg: CfgNode, model: nn.Module, records: list[dict[str, Any]]) -> list[Detections]:
    """Run the images of `records` as one zero-padded batch; detections in pixels of each image."""
    resize = T.ResizeShortestEdge([cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MIN_SIZE_TEST], cfg.INPUT.MAX_SIZE_TEST)
    inputs = []
    for record in records:
        image = read_image(record["file_name"])  # (H, W, 3) RGB
        height, width = image.shape[:2]
        if cfg.INPUT.FORMAT == "BGR":
            image = image[:, :, ::-1]
        image = resize.get_transform(image).apply_image(image)
        tensor = torch.as_tensor(image.astype("float32").transpose(2, 0, 1))  # (3, h, w)
        inputs.append({"image": tensor, "height": height, "width": width})
    with _quiet():
        outputs = model(inputs)
    return [_detections(output["instances"].to("cpu")) for output in outputs]


def _detections(found: Instances) -> Detections:
    masks = found.pred_masks if found.has("pred_masks") else None
    keypoints = found.pred_keypoints if found.has("pred_keypoints") else None
    return Detections(found.pred_boxes.tensor, found.scores, found.pred_classes, masks, keypoints)


def _commit() -> str | None:
    """Detectron2's git commit: of the checkout it runs from, or as pip recorded it."""
    root = Path(detectron2.__file__).resolve().parents[1]
    if (root / ".git").exists():
        command = ["git", "-C", str(root), "rev-parse", "HEAD"]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        return result.stdout.strip() or None
    try:
        record = importlib.metadata.distribution("detectron2").read_text("direct_url.json")
    except importlib.metadata.PackageNotFoundError:
        return None
    return json.loads(record).get("vcs_info", {}).get("commit_id") if record else None
