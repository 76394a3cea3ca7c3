"""The setups of the benchmarks, whose fields are the options of tools/benchmark.py.

Nothing heavy is imported here, so that the tool explains itself at once.
"""

import argparse
import dataclasses
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pretrain.checkpoints.moco_file import ARCHITECTURES
from pretrain.config import schema
from pretrain.runtime.errors import UserError
from pretrain.runtime.host import user_path
from pretrain.runtime.invocation.parser import Parser

PRECISIONS = schema.Optim.__dataclass_fields__["precision"].metadata["choices"]


class BenchmarkError(UserError):
    """A benchmark that cannot be run as it was asked for, or whose process died."""


@dataclass(frozen=True)
class StepSetup:
    """The training step: ours, the published formulation, and the floor that neither can go below."""

    arch: str = "resnet50"
    size: int = 224  # side of a view, pixels
    batch: int = 32  # images a process, N
    queue: int = 65536  # K
    precision: str = "fp32"  # of ours and of the floor
    published_precision: str = "fp32"
    channels_last: bool = True  # ours and the floor
    kernels: str = "eager"  # of the encoders of ours
    processes: int = 1
    threads: int = 0  # of each process; 0: its share of the cores
    device: str = "cpu"
    malloc: str = "keep"  # keep: the C library keeps freed memory, as tools/train_moco.py has it on a CPU
    steps: int = 3  # in a round
    repeats: int = 5

    def check(self) -> None:
        """Raise BenchmarkError where the published formulation cannot do this."""
        if self.queue % (self.batch * self.processes):
            raise BenchmarkError(
                f"--queue: {self.queue} is not a multiple of the global batch, {self.batch} x {self.processes} "
                "processes; the published queue has no other sizes"
            )


@dataclass(frozen=True)
class InputSetup:
    """The input: what one core of a loader's worker makes of JPEGs, by each pipeline and by the published code."""

    images: Path | None = None  # a folder; None: made
    augmentation: str = "v2"
    size: int = 224  # side of a view, pixels
    batch: int = 32
    number: int = 128  # images in a round
    repeats: int = 5


@dataclass(frozen=True)
class ShuffleSetup:
    """The exchange of shuffling BN between processes: everything gathered everywhere, as published, against ours."""

    size: int = 224  # side of a view, pixels
    batch: int = 32  # images a process, N
    dim: int = 128  # of a key
    worlds: tuple[int, ...] = (2, 4, 8)  # numbers of processes
    steps: int = 3  # in a round
    repeats: int = 5


@dataclass(frozen=True)
class EndToEndSetup(StepSetup):
    """The whole training, loader and step, each as its users start it: the published code against our pipelines.

    The published code gets all cores' threads, a loader worker beside them and the C library's own way with memory;
    ours gets what tools/train_moco.py chooses.
    """

    images: Path | None = None  # a folder; None: made
    augmentation: str = "v2"
    workers: int = 1
    processes: int = field(default=1, init=False)
    threads: int = field(default=0, init=False)
    malloc: str = field(default="keep", init=False)  # of ours

    def input(self, folder: Path) -> InputSetup:
        """The same for the input alone."""
        return InputSetup(folder, self.augmentation, self.size, self.batch, self.batch * self.steps, self.repeats)


@dataclass(frozen=True)
class FineTuningSetup:
    """The iteration of fine-tuning: Detectron2's, and the torchvision engine's in fp32 and in bf16 (fp16 on a GPU)."""

    recipe: str = "demo_coco"
    batch: int = 2  # images
    shorter_side: int = 0  # pixels; 0: as the recipe says
    threads: int = 0  # of each candidate; 0: as torch chooses
    device: str = "cpu"
    malloc: str = "default"
    number: int = 16  # images to train on
    steps: int = 3  # in a round
    repeats: int = 5


@dataclass(frozen=True)
class PredictSetup:
    """The prediction of docs/measurements/speed.md for many GPUs, of a step of one of them. Nothing is timed."""

    arch: str = "resnet50"
    size: int = 224  # side of a view, pixels
    batch: int = 32  # images a GPU, N
    queue: int = 65536  # K
    rate: int = 2000  # pairs/s of the bare encoders on one GPU
    pipeline: str = "fast"  # device: the GPU does the rest of the augmentation of both views, in ours
    cuda_graph: bool = False  # ours
    worlds: tuple[int, ...] = (8, 64, 512)


@dataclass(frozen=True)
class IndexSetup:
    """The memory that an index of images takes, on synthetic entries: the table of docs/guides/images.md.

    100 million entries take minutes, 5 GB of memory and 4 GB in TMPDIR.
    """

    millions: tuple[int, ...] = (1, 10)  # entries


# Of the fields of the setups; their defaults stand there.
OPTIONS: dict[str, dict[str, Any]] = {
    "arch": {"nargs": "+", "choices": ARCHITECTURES, "metavar": "ARCH", "help": "encoders, one after the other"},
    "recipe": {"nargs": "+", "metavar": "CONFIG", "help": "files or names of configs/transfer/, one after the other"},
    "size": {"type": int, "help": "side of a view, pixels"},
    "shorter_side": {"type": int, "help": "of training images, pixels; 0: as the recipe says"},
    "batch": {"type": int, "help": "images a process, N"},
    "dim": {"type": int, "help": "length of a key"},
    "queue": {"type": int, "help": "negatives, K: a multiple of the global batch"},
    "precision": {"choices": PRECISIONS, "help": "autocast of ours and of the floor"},
    "published_precision": {"choices": PRECISIONS, "help": "autocast around the published code, which has none"},
    "channels_last": {"action": argparse.BooleanOptionalAction, "help": "memory layout of ours and of the floor"},
    "kernels": {
        "choices": ("eager", "compile", "cuda_graph"),
        "help": "of the encoders of ours, as optim.compile and optim.cuda_graph make them",
    },
    "processes": {"type": int, "help": "of each candidate; gloo on a CPU, NCCL on GPUs"},
    "threads": {"type": int, "help": "of each process; 0: its share of the cores"},
    "device": {"help": "cpu, cuda, or auto"},
    "malloc": {
        "choices": ("keep", "default"),
        "help": "whether the C library keeps freed memory, in all candidates; training on a CPU does",
    },
    "images": {"type": user_path, "metavar": "DIR", "help": "folder of images; default: JPEGs made from a seed"},
    "augmentation": {"choices": ("v1", "v2"), "help": "recipe of the views"},
    "number": {"type": int, "help": "images in a round"},
    "workers": {"type": int, "help": "of the published code's loader; ours chooses for itself"},
    "rate": {"type": int, "help": "pairs of views that one GPU's bare encoders take, a second"},
    "pipeline": {"choices": ("fast", "device"), "help": "of the input of ours; device: a part of it is the GPU's work"},
    "cuda_graph": {"action": argparse.BooleanOptionalAction, "help": "the encoders of ours launched as CUDA graphs"},
    "worlds": {"type": int, "nargs": "+", "metavar": "PROCESSES", "help": "numbers of processes"},
    "millions": {"type": int, "nargs": "+", "metavar": "N", "help": "names in the index"},
    "steps": {"type": int, "help": "in a round"},
    "repeats": {"type": int, "help": "rounds, in each of which every candidate is measured once"},
}
_EACH = ("arch", "recipe")  # options of which each value makes a setup
_AT_LEAST = {"threads": 0, "workers": 0, "shorter_side": 0}  # of numbers; 1 for the others


def make_parser(description: str, examples: str, setups: Mapping[str, type]) -> argparse.ArgumentParser:
    """Return the parser of tools/benchmark.py.

    Args:
        setups: the class of each benchmark's setup, by the name that is typed.
    """
    parser = Parser(description=description, epilog=examples)
    kinds = parser.add_subparsers(dest="benchmark", required=True, metavar="|".join(setups))
    for name, setup in setups.items():
        text = inspect.cleandoc(setup.__doc__ or "")
        kind = kinds.add_parser(name, help=text, description=text, epilog=examples)
        for item in option_fields(setup):
            default = [item.default] if item.name in _EACH else item.default
            option = {**OPTIONS[item.name], "default": default}
            option["help"] += f" (default: {_words(default)})"
            kind.add_argument(f"--{item.name.replace('_', '-')}", **option)
        kind.add_argument("--json", type=user_path, metavar="FILE", help="all numbers, into a new file")
    return parser


def option_fields(setup: type) -> list[dataclasses.Field[Any]]:
    """Return the fields of a benchmark's setup that are options."""
    return [item for item in dataclasses.fields(setup) if item.init]


def make_setups(setup: type, arguments: argparse.Namespace) -> list[Any]:
    """Return what the command line asks for: one setup, or one for each encoder or recipe.

    Raises:
        BenchmarkError: numbers out of range, all of them.
    """
    given = {item.name: getattr(arguments, item.name) for item in option_fields(setup)}
    faults = [
        f"--{name.replace('_', '-')}: {number} must be at least {_AT_LEAST.get(name, 1)}"
        for name, value in given.items()
        if OPTIONS[name].get("type") is int
        for number in (value if isinstance(value, list | tuple) else [value])
        if number < _AT_LEAST.get(name, 1)
    ]
    if faults:
        raise BenchmarkError("; ".join(faults))
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    each = next((name for name in _EACH if name in given), None)
    if each is None:
        return [setup(**given)]
    return [setup(**{each: value}, **given) for value in given.pop(each)]


def _words(default: Any) -> str:
    return " ".join(map(str, default)) if isinstance(default, list | tuple) else str(default)
