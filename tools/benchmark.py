"""Time the production path against MoCo's formulation as published in 2020, interleaved, A B A B, in one run."""

import argparse
import importlib
import json
import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from common import cli

# isort: split
from benchmarks import arguments as options
from pretrain.runtime.invocation.naming import command_line

if TYPE_CHECKING:
    from rich.progress import Progress

    from benchmarks.interleave import OnProgress

EXAMPLES = """\
examples:
  python tools/benchmark.py step --arch resnet18 resnet50 --size 64
  python tools/benchmark.py step --precision bf16 --json output/step_bf16.json
  python tools/benchmark.py step --arch resnet18 --size 64 --processes 2
  python tools/benchmark.py input --images IMAGES
  python tools/benchmark.py shuffle --worlds 2 4 8
  python tools/benchmark.py end-to-end --arch resnet18 --size 64 --workers 1
  python tools/benchmark.py fine-tuning --recipe demo_coco coco_r50_fpn_1x --shorter-side 320
  python tools/benchmark.py predict --batch 256 --worlds 64
  python tools/benchmark.py index --millions 1

What the columns mean, and what was measured: docs/measurements/speed.md
"""


class Benchmark(NamedTuple):
    """A benchmark: its options, and the module of tools/benchmarks/ that measures it, imported when it is run."""

    setup: type
    module: str


BENCHMARKS = {
    "step": Benchmark(options.StepSetup, "training_step"),
    "input": Benchmark(options.InputSetup, "input_pipeline"),
    "shuffle": Benchmark(options.ShuffleSetup, "shuffle"),
    "end-to-end": Benchmark(options.EndToEndSetup, "end_to_end"),
    "fine-tuning": Benchmark(options.FineTuningSetup, "detectors.fine_tuning"),
    "predict": Benchmark(options.PredictSetup, "scaling_model"),
    "index": Benchmark(options.IndexSetup, "index_memory"),
}
WIDTH = 140  # columns of a table in a file


def main() -> None:
    """Measure what the command line asks for, print tables, and write JSON where it is asked for."""
    kinds = {name: benchmark.setup for name, benchmark in BENCHMARKS.items()}
    arguments = options.make_parser(__doc__ or "", EXAMPLES, kinds).parse_args()
    benchmark = BENCHMARKS[arguments.benchmark]
    asked = options.make_setups(benchmark.setup, arguments)
    if arguments.json:
        if arguments.json.exists():
            raise options.BenchmarkError(f"--json: {arguments.json}: exists already; name another")
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
    results = measure(benchmark, asked)
    if arguments.json:
        write_json(arguments, results)


def measure(benchmark: Benchmark, asked: Sequence[Any]) -> list[dict[str, Any]]:
    """Return the results of each setup, whose tables are printed as soon as they are there."""
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, TextColumn

    from pretrain.runtime.progress import progress_bar

    module = importlib.import_module(f"benchmarks.{benchmark.module}")
    screen = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
    results = []
    for setup in asked:
        with progress_bar(MofNCompleteColumn(), TextColumn("{task.description}")) as progress:
            results.append(module.measure(setup, reporter(progress)))
        screen.print(*module.tables(results[-1]), sep="\n")
    return results


def write_json(arguments: argparse.Namespace, results: Sequence[dict[str, Any]]) -> None:
    """Write all numbers, the command and the environment into the file that --json names."""
    from pretrain.runtime import distributed, provenance
    from pretrain.runtime.files import save_text

    device = distributed.select_device(getattr(arguments, "device", "cpu"))
    content = {
        "benchmark": arguments.benchmark,
        "command": shlex.join(command_line()),
        "environment": provenance.describe_environment(device, seed=0),
        "results": results,
    }
    save_text(arguments.json, json.dumps(content, indent=2) + "\n")


def reporter(progress: "Progress") -> "OnProgress":
    """Return a function that shows each piece of work as the one task of the bar."""
    task = progress.add_task("")

    def report(piece: str, done: int, of: int) -> None:
        progress.update(task, description=piece, completed=done, total=of)

    return report


if __name__ == "__main__":
    cli.run(main)
