"""The settings of a pretraining run, each with its unit, range and default; config_io.py reads and writes them.

The frozen dataclasses are the schema. A setting's key is its place in them: `optim.lr` is the field `lr` of `Optim`.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pretrain.checkpoints.moco_file import ARCHITECTURES
from pretrain.config.setting import range_faults, setting
from pretrain.config.text import ConfigError
from pretrain.models.registry import METHODS


def refuse(faults: Sequence[str]) -> None:
    """Raise ConfigError with the faults, where there are any."""
    if faults:
        raise ConfigError(faults)


@dataclass(frozen=True)
class Data:
    """The images and the views of them that the encoders get."""

    root: str = setting(
        "",
        "images, unlabelled: a folder (tree or flat), a .txt list of paths, .tar shards; see docs/guides/images.md",
        is_path=True,
    )
    workers: int | str = setting(
        "auto",
        "data loader processes beside each training process; auto: as its cores make useful, 0 on a CPU of few",
        at_least=0,
        word="auto",
    )
    image_size: int = setting(224, "side of a view in pixels", at_least=32)
    augmentation: str = setting("v2", "recipe of the views, as published for MoCo v1 or v2", choices=("v1", "v2"))
    pipeline: str = setting(
        "fast",
        "how views are made: published (Pillow in the workers), fast (quicker operations, see docs/guides/images.md) "
        "or device (the workers crop, the training device does the rest)",
        choices=("published", "fast", "device"),
    )
    crop_scale: tuple[float, float] = setting((0.2, 1.0), "share of the image that a crop covers", above=0, at_most=1)
    max_broken: float = setting(
        0.001,
        "share of the images that may be unreadable (others are shown for them); more stop the run",
        at_least=0,
        at_most=1,
    )

    def __post_init__(self) -> None:
        faults = range_faults("data", self)
        if not faults and self.crop_scale[0] > self.crop_scale[1]:
            faults.append(
                f"data.crop_scale: {list(self.crop_scale)} runs from large to small; give [smallest, largest]"
            )
        refuse(faults)


@dataclass(frozen=True)
class Model:
    """The encoder, the dictionary, and what keeps BN from leaking."""

    mechanism: str = setting(
        "moco",
        "where the keys come from (figure 2 of the paper); supervised: none, the class folders in data.root are learnt",
        choices=METHODS,
    )
    arch: str = setting("resnet50", "torchvision's name of the encoder", choices=ARCHITECTURES)
    weights: str = setting(
        "",
        "a file for the encoders' backbones to start from, any that tools/convert.py reads; empty: random weights",
        is_path=True,
    )
    dim: int = setting(128, "length of a feature vector", at_least=2)
    head: str = setting("mlp", "projection: fc (v1) or two layers with ReLU (v2)", choices=("fc", "mlp"))
    queue_size: int = setting(65536, "negatives, K: keys held in the queue", at_least=1)
    momentum: float = setting(0.999, "m of the key encoder: k = m k + (1 - m) q", at_least=0, at_most=1)
    bank_momentum: float = setting(0.5, "of a feature in the memory bank: v = m v + (1 - m) q", at_least=0, at_most=1)
    temperature: float = setting(0.2, "divides the logits", above=0)
    bn_shuffle: bool = setting(True, "encode keys in another order across BN groups than queries")
    bn_groups: int = setting(1, "parts of a process's batch with BN statistics of their own", at_least=1)
    bn_sync_ranks: int = setting(1, "processes that share BN statistics (SyncBN): 1 none, 0 all", at_least=0)
    channels_last: bool = setting(True, "lay images and weights out channels last: faster, other last bits")

    def __post_init__(self) -> None:
        faults = range_faults("model", self)
        if self.bn_groups > 1 and self.bn_sync_ranks != 1:
            faults.append(
                f"model.bn_groups: {self.bn_groups} splits the statistics that model.bn_sync_ranks "
                f"{self.bn_sync_ranks} joins; set one of them to 1"
            )
        refuse(faults)


@dataclass(frozen=True)
class Optim:
    """The optimizer, SGD, and its schedule."""

    lr: float = setting(0.03, "learning rate of the first epoch; published: 0.03 for a batch of 256", above=0)
    batch_size: int = setting(256, "images a step, of all processes together", at_least=2)
    epochs: int = setting(200, "passes over the images", at_least=1)
    schedule: str = setting("cosine", "of the learning rate: step (v1) or cosine (v2)", choices=("step", "cosine"))
    schedule_unit: str = setting(
        "epoch",
        "the rate changes from epoch to epoch, as published, or at every step",
        choices=("epoch", "step"),
    )
    milestones: tuple[int, ...] = setting(
        (120, 160), "epochs at which schedule step multiplies by gamma; steps with schedule_unit step", at_least=0
    )
    warmup_steps: int = setting(0, "steps over which the rate rises to its schedule; 0: none, as published", at_least=0)
    gamma: float = setting(0.1, "factor of schedule step", above=0, at_most=1)
    sgd_momentum: float = setting(0.9, "momentum of SGD", at_least=0, at_most=1)
    weight_decay: float = setting(1e-4, "on every parameter, BN and biases included", at_least=0)
    precision: str = setting(
        "fp32",
        "of the encoders; weights, queue and loss are always fp32. fp32: TF32 is off; tf32: convolutions may use it",
        choices=("fp32", "tf32", "bf16", "fp16"),
    )
    accumulate: int = setting(1, "parts of the batch that pass one after the other, for one update", at_least=1)
    clip_norm: float = setting(0.0, "largest norm of the gradient; 0: not clipped", at_least=0)
    compile: bool = setting(
        False, "torch.compile the encoders, and the augmentation of data.pipeline device; needs a compiler"
    )
    cuda_graph: bool = setting(
        False, "launch the kernels of an encoder together, on a GPU; for at most 64 images a process"
    )

    def __post_init__(self) -> None:
        faults = range_faults("optim", self)
        if self.cuda_graph and self.compile:
            faults.append("optim.cuda_graph: cannot record what optim.compile compiles; set one of them to false")
        if self.cuda_graph and self.accumulate > 1:
            faults.append(
                f"optim.cuda_graph: the gradients of a recorded step are overwritten by the next part, so that "
                f"optim.accumulate {self.accumulate} cannot add them up; set it to 1, or optim.cuda_graph to false"
            )
        if list(self.milestones) != sorted(set(self.milestones)):
            faults.append(f"optim.milestones: {list(self.milestones)} does not ascend")
        refuse(faults)


@dataclass(frozen=True)
class Knn:
    """The validation while training: weighted k nearest neighbours on features of the backbone."""

    root: str = setting(
        "", "labelled images, a folder a class, or train/ and val/ of these; empty: no validation", is_path=True
    )
    period: int = setting(1, "epochs from one validation to the next", at_least=1)
    k: int = setting(200, "neighbours that vote", at_least=1)
    temperature: float = setting(0.07, "T of a vote's weight exp(cosine / T)", above=0)

    def __post_init__(self) -> None:
        refuse(range_faults("knn", self))


@dataclass(frozen=True)
class Config:
    """The settings of one pretraining run."""

    data: Data = field(default_factory=Data)
    model: Model = field(default_factory=Model)
    optim: Optim = field(default_factory=Optim)
    knn: Knn = field(default_factory=Knn)
    method: Any = None  # an instance of the section that the method of model.mechanism adds; None where it adds none
    output_dir: str = setting("output/pretrain", "folder of the run; must not hold one yet", is_path=True)
    seed: int = setting(0, "of weights, order, views and shuffling", at_least=0, at_most=2**32 - 1)
    device: str = setting("auto", "cpu, cuda, cuda:N, or auto: cuda where there is one")
    checkpoint_period: int = setting(
        1, "epochs from one checkpoint to the next; the last epoch always has one", at_least=1
    )
    checkpoint_steps: int = setting(0, "steps from one checkpoint to the next within an epoch; 0: none", at_least=0)
    checkpoint_keep: int = setting(3, "newest checkpoints that stay; older ones are removed", at_least=2)
    milestone_period: int = setting(
        0, "epochs from one checkpoint that stays for good to the next; 0: only the last epoch's", at_least=0
    )
    deterministic: bool = setting(
        True, "algorithms of torch, cuDNN and cuBLAS that give the same bits again: exact resume on a GPU"
    )
    log_period: int = setting(10, "steps from one line of metrics.json to the next", at_least=1)
    wandb: str = setting("", "W&B's project to log to, PROJECT or ENTITY/PROJECT; see docs/guides/hubs.md; empty: none")
    mlflow: str = setting("", "MLflow's experiment to log to, at MLFLOW_TRACKING_URI; empty: none")

    def __post_init__(self) -> None:
        faults = range_faults("", self)
        if not self.output_dir.strip():
            faults.append("output_dir: is empty; name the folder of the run")
        optim, model = self.optim, self.model
        if optim.batch_size % (optim.accumulate * model.bn_groups):
            faults.append(
                f"optim.batch_size: {optim.batch_size} cannot be split into optim.accumulate {optim.accumulate} parts "
                f"of model.bn_groups {model.bn_groups}"
            )
        faults += [
            f"optim.{name}: does not go with SyncBN, whose ranks wait for each other within a step; set "
            f"model.bn_sync_ranks to 1, or optim.{name} to false"
            for name in ("compile", "cuda_graph")
            if getattr(optim, name) and model.bn_sync_ranks != 1
        ]
        refuse(faults)


SECTIONS: Mapping[str, type] = {"data": Data, "model": Model, "optim": Optim, "knn": Knn}
FIELDS: dict[str, dataclasses.Field[Any]] = {
    f"{prefix}{field.name}": field
    for prefix, section in [*((f"{name}.", section) for name, section in SECTIONS.items()), ("", Config)]
    for field in dataclasses.fields(section)
    if f"{prefix}{field.name}" not in (*SECTIONS, "method")
}  # without those that only one method has
PATHS = frozenset(key for key, item in FIELDS.items() if item.metadata["is_path"])
