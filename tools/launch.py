"""Run pretraining, fine-tuning, or all from images to the report, on a SLURM cluster or on this machine."""

import argparse
from collections.abc import Callable, Sequence

from common import cli

# isort: split
from launcher import arguments as command_line

PASSING_ON = ("pretrain", "finetune")  # actions that hand unknown words to their tool
SUBMITTING = (*PASSING_ON, "pipeline")


def main() -> None:
    """Parse the command line and do its action."""
    parser = command_line.make_parser(__doc__ or "")
    arguments, rest = parser.parse_known_args()
    if rest and arguments.action not in PASSING_ON:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if arguments.action == "doctor":
        print("checks      the cluster, before the first job", flush=True)
    elif arguments.action in SUBMITTING and not arguments.dry_run:  # what follows may import torch, which takes seconds
        print("checks      the run, before anything starts", flush=True)
    find_action(arguments.action)(arguments, rest)


def find_action(name: str) -> Callable[[argparse.Namespace, Sequence[str]], None]:
    """Return the function of an action. It takes the arguments, and the words that are passed on to another tool.

    Only the modules that it needs are imported: those that submit fine-tuning import torch and the engines, which takes
    seconds.
    """
    if name in ("status", "logs", "cancel"):
        from launcher import manage

        return {"status": manage.show_status, "logs": manage.show_logs, "cancel": manage.cancel}[name]
    if name == "doctor":
        from launcher.doctor.examine import examine

        return examine
    from launcher import submit

    return {
        "pretrain": submit.launch_pretraining,
        "finetune": submit.launch_fine_tuning,
        "pipeline": submit.launch_pipeline,
        "retry": submit.retry,
    }[name]


if __name__ == "__main__":
    cli.run(main)
