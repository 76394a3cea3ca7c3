"""Fine-tune a detector from a backbone and evaluate it: the number a backbone is worth."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from common import cli

# isort: split
from pretrain.runtime import signals
from pretrain.runtime.invocation.naming import command_line
from pretrain.runtime.signals import Stopped
from transfer import results
from transfer.data.labels import describe_labels
from transfer.evaluation.kinds import evaluation_of
from transfer.run import arguments

if TYPE_CHECKING:  # it imports torch, which takes seconds: --help and a typo come before
    from transfer.run.plan import Plan


def main() -> None:
    args = arguments.parser().parse_intermixed_args()
    options = arguments.options_from(args)
    cli.log_to_terminal()
    arguments.check_settings(options)
    from transfer.run import trials  # they import torch, which takes seconds: a typo is told before
    from transfer.run.execute import execute

    try:
        with signals.StopRequest() as stop:
            base = trials.plan_base(options, command_line())
            plans = trials.plan_runs(base, options)
            if args.dry_run:
                print_plans(base, plans)
                return
            execute(*plans, stop=stop)
    except Stopped:
        sys.exit(signals.EXIT_CODE)
    if cli.is_main():
        print_results(plans)


def print_plans(base: Plan, plans: Sequence[Plan]) -> None:
    """Print the resolved configuration, and what would be done in each run's folder."""
    print(base.config.dump())
    for notice in base.image_notices():
        print(f"# warning: {notice}")
    print(f"# engine {base.engine}, init {base.initial.init.label}, {base.processes} process(es)")
    if base.labelled:
        print(f"# labels {describe_labels(base.labelled.labels)}, {base.config.SOLVER.MAX_ITER} iterations")
    for plan in plans:
        state = "finished" if plan.finished else "resumes" if plan.resume else "runs"
        print(f"# {state}: {plan.output}, seed {plan.config.SEED}")


def print_results(plans: Sequence[Plan]) -> None:
    """Print each run's result.json, its scores and the remarks on them."""
    for plan in plans:
        path = plan.result
        result = results.read_result(path)
        print("\n  ".join([f"{path}: {summary(result)}", *result.remarks, *replaced(result)]))


def replaced(result: results.Result) -> list[str]:
    """Return a line on the training images that others have replaced, if there are any."""
    if not result.replaced_images:
        return []
    of = f"{result.replaced_images} of {result.task.train_images} training images"
    return [f"{of} could not be read; others took their place (log: each by name)"]


def summary(result: results.Result) -> str:
    """Return one line: engine, initial weights, and the points of what a report's columns show of the run."""
    evaluation = evaluation_of(result.task.kind)
    columns = [key.split("/", 1) for key in evaluation.columns(result)]
    names = {part: [name for of, name in columns if of == part] for part in result.metrics}
    scores = [
        _scores_of_part(part, points, names[part], evaluation.headline) for part, points in result.metrics.items()
    ]
    return f"{result.engine.name}, init {result.init.label}, seed {result.seed}: {', '.join(scores)}"


def _scores_of_part(part: str, points: results.Points, names: Sequence[str], headline: str) -> str:
    shown = [(name, points[name]) for name in names if name in points]
    if all(value is None for _, value in shown):
        return f"{part} {headline}: nothing to score"
    return ", ".join(f"{part} {name} {'undefined' if value is None else f'{value:.2f}'}" for name, value in shown)


if __name__ == "__main__":
    cli.run(main)
