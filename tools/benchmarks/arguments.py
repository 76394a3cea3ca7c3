"""The options of tools/benchmark.py: those of each benchmark are the fields of its `Setup`."""

import argparse
import dataclasses
from collections.abc import Mapping
from typing import Any

from pretrain.checkpoints.moco_file import ARCHITECTURES
from pretrain.engine.step import PRECISIONS
from pretrain.runtime.host import user_path

from .interleave import BenchmarkError

# Of the fields of the benchmarks' setups; their defaults stand there.
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
    "worlds": {"type": int, "nargs": "+", "metavar": "PROCESSES", "help": "numbers of processes"},
    "millions": {"type": int, "nargs": "+", "metavar": "N", "help": "names in the index"},
    "steps": {"type": int, "help": "in a round"},
    "repeats": {"type": int, "help": "rounds, in each of which every candidate is measured once"},
}
_EACH = ("arch", "recipe")  # options of which each value makes a setup
_AT_LEAST = {"threads": 0, "workers": 0, "shorter_side": 0}  # of numbers; 1 for the others


def make_parser(description: str, examples: str, benchmarks: Mapping[str, Any]) -> argparse.ArgumentParser:
    """Return the parser of tools/benchmark.py.

    Args:
        benchmarks: modules with a `Setup`, by the name that is typed.
    """
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=description, epilog=examples, formatter_class=style)
    kinds = parser.add_subparsers(dest="benchmark", required=True, metavar="|".join(benchmarks))
    for name, benchmark in benchmarks.items():
        text = benchmark.__doc__
        kind = kinds.add_parser(name, help=text, description=text, epilog=examples, formatter_class=style)
        for field in option_fields(benchmark.Setup):
            default = [field.default] if field.name in _EACH else field.default
            option = {**OPTIONS[field.name], "default": default}
            option["help"] += f" (default: {_words(default)})"
            kind.add_argument(f"--{field.name.replace('_', '-')}", **option)
        kind.add_argument("--json", type=user_path, metavar="FILE", help="all numbers, into a new file")
    return parser


def option_fields(setup: type) -> list[dataclasses.Field[Any]]:
    """Return the fields of a benchmark's setup that are options."""
    return [field for field in dataclasses.fields(setup) if field.init]


def make_setups(setup: type, arguments: argparse.Namespace) -> list[Any]:
    """Return what the command line asks for: one setup, or one for each encoder or recipe.

    Raises:
        BenchmarkError: numbers out of range, all of them.
    """
    given = {field.name: getattr(arguments, field.name) for field in option_fields(setup)}
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
