"""Time the production path against MoCo's formulation as published in 2020, in turns, A B A B, in one run."""

import argparse
import dataclasses
import json
import shlex
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from benchmarks import end_to_end, input_pipeline, scaling_model, shuffle, training_step
from benchmarks.interleave import Tell
from common import cli
from common.checkpoint_cli import check_flags, console
from pretrain.checkpoints.moco_file import ARCHITECTURES, save_text
from pretrain.engine.step import PRECISIONS
from pretrain.runtime import distributed, run_folder
from pretrain.runtime.errors import PretrainError

EXAMPLES = """\
examples:
  python tools/benchmark.py step --arch resnet18 resnet50 --size 64
  python tools/benchmark.py step --precision bf16 --json output/step_bf16.json
  python tools/benchmark.py step --arch resnet18 --size 64 --processes 2
  python tools/benchmark.py input --images IMAGES
  python tools/benchmark.py shuffle --worlds 2 4 8
  python tools/benchmark.py end-to-end --arch resnet18 --size 64 --workers 1
  python tools/benchmark.py predict --batch 256 --worlds 64

What the columns mean, and what was measured: docs/measurements/speed.md
"""

BENCHMARKS: dict[str, Any] = {
    "step": training_step,
    "input": input_pipeline,
    "shuffle": shuffle,
    "end-to-end": end_to_end,
    "predict": scaling_model,
}

# Of the fields of the benchmarks' setups; their defaults stand there.
OPTIONS: dict[str, dict[str, Any]] = {
    "arch": {"nargs": "+", "choices": ARCHITECTURES, "metavar": "ARCH", "help": "encoders, one after the other"},
    "size": {"type": int, "help": "side of a view, pixels"},
    "batch": {"type": int, "help": "images a process, N"},
    "dim": {"type": int, "help": "length of a key"},
    "queue": {"type": int, "help": "negatives, K: a multiple of the global batch"},
    "precision": {"choices": PRECISIONS, "help": "autocast of ours and of the floor"},
    "published_precision": {"choices": PRECISIONS, "help": "autocast around the published code, which has none"},
    "channels_last": {"action": argparse.BooleanOptionalAction, "help": "memory layout of ours and of the floor"},
    "processes": {"type": int, "help": "of each contender; gloo on a CPU, NCCL on GPUs"},
    "threads": {"type": int, "help": "of each process; 0: its share of the cores"},
    "device": {"help": "cpu, cuda, or auto"},
    "malloc": {
        "choices": ("keep", "default"),
        "help": "whether the C library keeps freed memory, in all contenders; training on a CPU does",
    },
    "images": {"type": Path, "metavar": "DIR", "help": "folder of images; default: JPEGs made from a seed"},
    "augmentation": {"choices": ("v1", "v2"), "help": "recipe of the views"},
    "number": {"type": int, "help": "images in a turn"},
    "workers": {"type": int, "help": "of the loader"},
    "rate": {"type": int, "help": "pairs of views that one GPU's bare encoders take, a second"},
    "worlds": {"type": int, "nargs": "+", "metavar": "PROCESSES", "help": "numbers of processes"},
    "steps": {"type": int, "help": "in a turn"},
    "repeats": {"type": int, "help": "turns of each contender"},
}
WIDTH = 140  # columns of a table in a file
AT_LEAST = {"threads": 0, "workers": 0}  # of numbers; 1 for the others


def main() -> None:
    arguments = parse()
    benchmark = BENCHMARKS[arguments.benchmark]
    setups = make_setups(benchmark.Setup, arguments)
    if arguments.json:
        if arguments.json.exists():
            raise PretrainError(f"--json: {arguments.json}: exists already; name another")
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
    screen = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
    results = []
    for setup in setups:
        with progress_bar() as progress:
            results.append(benchmark.measure(setup, told_on(progress)))
        screen.print(*benchmark.tables(results[-1]), sep="\n")
    if arguments.json:
        device = distributed.select_device(getattr(arguments, "device", "cpu"))
        content = {
            "benchmark": arguments.benchmark,
            "command": shlex.join(["python", *sys.argv]),
            "environment": run_folder.describe_environment(device, seed=0),
            "results": results,
        }
        save_text(arguments.json, json.dumps(content, indent=2) + "\n")


def parse() -> argparse.Namespace:
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES, formatter_class=style)
    kinds = parser.add_subparsers(dest="benchmark", required=True, metavar="|".join(BENCHMARKS))
    for name, benchmark in BENCHMARKS.items():
        text = benchmark.__doc__
        kind = kinds.add_parser(name, help=text, description=text, epilog=EXAMPLES, formatter_class=style)
        for field in choosable(benchmark.Setup):
            default = [field.default] if field.name == "arch" else field.default
            option = {**OPTIONS[field.name], "default": default}
            option["help"] += f" (default: {_words(default)})"
            kind.add_argument(f"--{field.name.replace('_', '-')}", **option)
        kind.add_argument("--json", type=Path, metavar="FILE", help="all numbers, into a new file")
    return parser.parse_args()


def choosable(setup: type) -> list[dataclasses.Field[Any]]:
    """The fields of a benchmark's setup that are options."""
    return [field for field in dataclasses.fields(setup) if field.init]


def make_setups(setup: type, arguments: argparse.Namespace) -> list[Any]:
    """What the command line asks for: a setup for each encoder. Raises PretrainError for numbers out of range."""
    given = {field.name: getattr(arguments, field.name) for field in choosable(setup)}
    numbers = [
        (f"--{name.replace('_', '-')}", number, AT_LEAST.get(name, 1))
        for name, value in given.items()
        if OPTIONS[name].get("type") is int
        for number in (value if isinstance(value, list | tuple) else [value])
    ]
    check_flags(numbers)
    if "worlds" in given:
        given["worlds"] = tuple(given["worlds"])
    archs = given.pop("arch", None)
    return [setup(arch=arch, **given) for arch in archs] if archs else [setup(**given)]


def progress_bar() -> Progress:
    """What is being measured, and how much is left."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


def told_on(progress: Progress) -> Tell:
    """Shows what is told as a task of the bar."""
    task = progress.add_task("")

    def tell(said: str, done: int, of: int) -> None:
        progress.update(task, description=said, completed=done, total=of)

    return tell


def _words(default: Any) -> str:
    return " ".join(map(str, default)) if isinstance(default, list | tuple) else str(default)


if __name__ == "__main__":
    cli.run(main)
