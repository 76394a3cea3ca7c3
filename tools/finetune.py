"""Fine-tune a detector from a backbone and evaluate it: the number a backbone is worth."""

import sys
from collections.abc import Sequence
from pathlib import Path

from common import cli
from pretrain.runtime import signals
from pretrain.runtime.signals import Stopped
from transfer import results
from transfer.run import arguments, plan, trials


def main() -> None:
    args = arguments.parser().parse_intermixed_args()
    cli.log_to_terminal()
    try:
        with signals.StopRequest() as stop:
            options = arguments.options_from(args)
            base = trials.plan_base(options, ["python", *sys.argv])
            runs = trials.plan_runs(base, options)
            if args.dry_run:
                print_plans(base, runs)
                return
            plan.execute(*runs, stop=stop)
    except Stopped:
        sys.exit(signals.EXIT_CODE)
    if cli.is_main():
        print_results(runs)


def print_plans(base: plan.Plan, runs: Sequence[plan.Plan]) -> None:
    """Print the resolved configuration, and what would be done in each run's folder."""
    print(base.config.dump())
    print(f"# engine {base.engine}, start {base.start.init.label}, {base.processes} process(es)")
    for run in runs:
        state = "finished" if run.finished else "resumes" if run.resume else "runs"
        print(f"# {state}: {run.config.OUTPUT_DIR}, seed {run.config.SEED}")


def print_results(runs: Sequence[plan.Plan]) -> None:
    """Print each run's result.json and its scores."""
    for run in runs:
        path = Path(run.config.OUTPUT_DIR) / results.FILE_NAME
        print(f"{path}: {summary(results.read(path))}")


def summary(result: results.Result) -> str:
    """Return one line: engine, initial weights, and the AP of everything that was scored."""
    scores = ", ".join(
        f"{task} {name} {value:.2f}"
        for task, points in result.metrics.items()
        for name, value in points.items()
        if name in ("AP", "AP50", "AP75") and value is not None
    )
    return f"{result.engine.name}, {result.init.label} start, seed {result.seed}: {scores}"


if __name__ == "__main__":
    cli.run(main)
