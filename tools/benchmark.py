"""Time the production path against MoCo's formulation as published in 2020, interleaved, A B A B, in one run."""

import json
import shlex
import sys
from typing import Any

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn

from benchmarks import arguments as options
from benchmarks import end_to_end, index_memory, input_pipeline, scaling_model, shuffle, training_step
from benchmarks.detectors import fine_tuning
from benchmarks.interleave import BenchmarkError, OnProgress
from common import cli
from pretrain.runtime import distributed, provenance
from pretrain.runtime.files import save_text
from pretrain.runtime.progress import progress_bar

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

BENCHMARKS: dict[str, Any] = {
    "step": training_step,
    "input": input_pipeline,
    "shuffle": shuffle,
    "end-to-end": end_to_end,
    "fine-tuning": fine_tuning,
    "predict": scaling_model,
    "index": index_memory,
}
WIDTH = 140  # columns of a table in a file


def main() -> None:
    """Measure what the command line asks for, print tables, and write JSON where it is asked for."""
    arguments = options.make_parser(__doc__ or "", EXAMPLES, BENCHMARKS).parse_args()
    benchmark = BENCHMARKS[arguments.benchmark]
    setups = options.make_setups(benchmark.Setup, arguments)
    if arguments.json:
        if arguments.json.exists():
            raise BenchmarkError(f"--json: {arguments.json}: exists already; name another")
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
    screen = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
    results = []
    for setup in setups:
        with progress_bar(MofNCompleteColumn(), TextColumn("{task.description}")) as progress:
            results.append(benchmark.measure(setup, reporter(progress)))
        screen.print(*benchmark.tables(results[-1]), sep="\n")
    if arguments.json:
        device = distributed.select_device(getattr(arguments, "device", "cpu"))
        content = {
            "benchmark": arguments.benchmark,
            "command": shlex.join(["python", *sys.argv]),
            "environment": provenance.describe_environment(device, seed=0),
            "results": results,
        }
        save_text(arguments.json, json.dumps(content, indent=2) + "\n")


def reporter(progress: Progress) -> OnProgress:
    """Return a function that shows each piece of work as the one task of the bar."""
    task = progress.add_task("")

    def report(piece: str, done: int, of: int) -> None:
        progress.update(task, description=piece, completed=done, total=of)

    return report


if __name__ == "__main__":
    cli.run(main)
