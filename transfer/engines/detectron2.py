"""The engine of record: the real Detectron2, built or as an unbuilt checkout. The one module that imports it.

Importing it registers what MoCo's recipes need beyond Detectron2's own parts: Res5ROIHeadsExtraNorm, the head of C4
models, and build_resnet_dilated_c5_backbone.
"""

import contextlib
import importlib.metadata
import importlib.util
import json
import logging
import subprocess
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pretrain import checkpoint, distributed
from transfer import config as vocabulary
from transfer import weights as weight_files
from transfer.datasets import Dataset, read_image
from transfer.detections import Detections
from transfer.engines import Predict
from transfer.errors import TransferError


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
    from detectron2.data.samplers import TrainingSampler
    from detectron2.engine import AMPTrainer, HookBase, SimpleTrainer, hooks
    from detectron2.layers import Conv2d, ShapeSpec, get_norm
    from detectron2.modeling import BACKBONE_REGISTRY, ROI_HEADS_REGISTRY, Backbone, build_model, build_resnet_backbone
    from detectron2.modeling.roi_heads import Res5ROIHeads
    from detectron2.solver import build_lr_scheduler, build_optimizer
    from detectron2.structures import Instances
    from detectron2.utils.env import seed_all_rng
    from detectron2.utils.events import CommonMetricPrinter, EventWriter, JSONWriter, TensorboardXWriter
    from fvcore.nn.precise_bn import get_bn_modules

NAME = "detectron2"
WRITE_PERIOD = 20  # iterations between two rows of metrics.json, as Detectron2's own scripts have it

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
) -> None:
    """Fine-tune on `dataset` as Detectron2's DefaultTrainer does; called in every rank.

    Args:
        cfg: whole and settled: number of classes, seed, device, OUTPUT_DIR.
        initial: full names -> tensors to load over the random start, each of which the model must have.
        evaluate: scores a detector; called in every rank each TEST.EVAL_PERIOD iterations and at the end.
        resume: go on from the checkpoint that OUTPUT_DIR/last_checkpoint names.
        checkpoint_extra: kept in every checkpoint.

    Raises TransferError for an unreadable image, a batch that the ranks cannot share, and a loss that is not finite.
    """
    _join_local_processes()
    _check(cfg)
    seed_all_rng(cfg.SEED + comm.get_rank())
    torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK

    model = _build(cfg)
    _load_over(model, initial)
    optimizer = build_optimizer(cfg, model)
    scheduler = build_lr_scheduler(cfg, optimizer)
    parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler}
    saver = Saver(Path(cfg.OUTPUT_DIR), cfg.SOLVER.CHECKPOINT_PERIOD, parts, checkpoint_extra)
    start = saver.load() if resume else 0
    seed_all_rng(cfg.SEED + start + comm.get_rank())  # a resumed run must not draw the first iterations' images again
    trainer_type = AMPTrainer if cfg.SOLVER.AMP.ENABLED else SimpleTrainer
    trainer = trainer_type(distributed.data_parallel(model), _train_loader(cfg, dataset, cfg.SEED + start), optimizer)
    trainer.register_hooks(  # in DefaultTrainer's order
        [
            hooks.IterationTimer(),
            hooks.LRScheduler(optimizer, scheduler),
            _precise_bn(cfg, model, dataset),
            saver,
            hooks.EvalHook(cfg.TEST.EVAL_PERIOD, lambda: _score(cfg, model, evaluate)),
            _writer(cfg),
        ]
    )
    try:
        with _quiet():
            trainer.train(start, cfg.SOLVER.MAX_ITER)
    except FloatingPointError as error:
        raise TransferError(f"training diverged: {error} A lower SOLVER.BASE_LR may help") from error


class Saver(HookBase):
    """Writes model_0000999.pth every `period` iterations and model_final.pth; last_checkpoint names the newest.

    After the hooks that change the model (PreciseBN), before evaluation: if that fails, the weights are there.
    """

    def __init__(self, folder: Path, period: int, parts: Mapping[str, Any], extra: Mapping[str, Any]) -> None:
        self.folder, self.period, self.parts, self.extra = folder, period, parts, extra

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if done == self.trainer.max_iter:
            self._save("model_final.pth")
        elif self.period > 0 and done % self.period == 0:
            self._save(f"model_{self.trainer.iter:07d}.pth")

    def _save(self, name: str) -> None:
        if comm.is_main_process():
            state = {part: thing.state_dict() for part, thing in self.parts.items()}
            checkpoint.save(self.folder / name, {**state, "iteration": self.trainer.iter, **self.extra})
            with checkpoint.whole_file(self.folder / "last_checkpoint") as file:
                file.write(name.encode())

    def load(self) -> int:
        """Load the newest checkpoint; returns the iteration to go on with."""
        name = self.folder / "last_checkpoint"
        if not name.is_file():
            raise TransferError(f"--resume: nothing to resume in {self.folder}: it holds no last_checkpoint")
        content = checkpoint.load(self.folder / name.read_text().strip())
        for part, thing in self.parts.items():
            thing.load_state_dict(content[part])
        return int(content["iteration"]) + 1


class Mapper(DatasetMapper):
    """Detectron2's mapping of a record to a training example; a record it cannot map is the user's to repair."""

    def __call__(self, record: dict[str, Any]) -> dict[str, Any]:
        try:
            return super().__call__(record)
        except Exception as error:  # Pillow's decoders alone raise many kinds
            reason = f"{type(error).__name__}: {error}".strip()
            raise TransferError(f"{record['file_name']}: cannot be trained on ({reason})") from error


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


def _train_loader(cfg: CfgNode, dataset: Dataset, seed: int) -> Any:
    records = dataset.records
    if cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS:
        records = filter_images_with_only_crowd_annotations(records)
    if cfg.MODEL.KEYPOINT_ON:
        records = filter_images_with_few_keypoints(records, cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE)
    if not records:
        raise TransferError(f"DATASETS.TRAIN {', '.join(dataset.names)}: no image has an object to learn from")
    sampler = None
    if cfg.DATALOADER.SAMPLER_TRAIN == "TrainingSampler":
        sampler = TrainingSampler(len(records), seed=seed)
    return build_detection_train_loader(cfg, dataset=records, mapper=Mapper(cfg), sampler=sampler)


def _precise_bn(cfg: CfgNode, model: nn.Module, dataset: Dataset) -> HookBase | None:
    """The hook that gives the norms the statistics of the final weights, before each test."""
    if not (cfg.TEST.PRECISE_BN.ENABLED and get_bn_modules(model)):
        return None
    cfg = cfg.clone()
    cfg.defrost()
    cfg.DATALOADER.NUM_WORKERS = 0  # a loader of its own, so that training's order does not change, but a light one
    return hooks.PreciseBN(
        cfg.TEST.EVAL_PERIOD, model, _train_loader(cfg, dataset, cfg.SEED), cfg.TEST.PRECISE_BN.NUM_ITER
    )


def _writer(cfg: CfgNode) -> HookBase | None:
    if not comm.is_main_process():
        return None
    metrics = JSONWriter(str(Path(cfg.OUTPUT_DIR) / "metrics.json"))
    writers: list[EventWriter] = [CommonMetricPrinter(cfg.SOLVER.MAX_ITER), metrics]
    if importlib.util.find_spec("tensorboard"):
        writers.append(TensorboardXWriter(cfg.OUTPUT_DIR))
    return hooks.PeriodicWriter(writers, period=WRITE_PERIOD)


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
