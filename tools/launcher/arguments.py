"""The command line of tools/launch.py."""

import argparse
from collections.abc import Sequence
from typing import Any

from pretrain.runtime.host import CONFIG_HELP, ConfigOf, user_path
from pretrain.runtime.invocation.parser import Parser

from .cluster import resources

WAIT = "return when all has ended; exit code 1 if something failed"
EXAMPLES = """examples:
  # before the first job on a cluster: what would fail there, and the line to change
  python tools/launch.py doctor --partition gpu --gpus 8 --time 1-00:00
  python tools/launch.py doctor configs/launch/pipeline_r50.yaml --partition gpu --no-job

  # what would run, with the files for sbatch, and nothing else
  python tools/launch.py pretrain --resources configs/launch/gpu8.yaml --partition gpu --dry-run \\
      --config-file configs/pretrain/moco_v2_r50_200ep.yaml data.root IMAGES output_dir output/moco

  # five trials as a job array, two at a time
  python tools/launch.py finetune --resources configs/launch/gpu8.yaml --trials 5 --parallel 2 \\
      --config-file configs/transfer/voc_r50_c4_24k.yaml --dataset-root VOCdevkit --init moco.pth OUTPUT_DIR output/voc

  # from images to the report; given again, it runs what is missing
  python tools/launch.py pipeline configs/launch/pipeline_r50.yaml --partition gpu

  # its progress; a stage's output; stop all; run again what failed
  python tools/launch.py status output/study
  python tools/launch.py logs output/study voc/moco/trial_0 --follow
  python tools/launch.py cancel output/study
  python tools/launch.py retry output/study

  # two processes on this machine, without a cluster
  python tools/launch.py pretrain --cluster local --processes 2 --config-file configs/pretrain/demo.yaml \\
      data.root IMAGES output_dir output/moco

All options of pretrain and finetune but those of this tool go to tools/train_moco.py or tools/finetune.py.
"""


def make_parser(description: str) -> argparse.ArgumentParser:
    """Return the parser of tools/launch.py; `action` is the name of the action, `parser` its own parser."""
    top = Parser(
        description=description,
        epilog=EXAMPLES,
        allow_abbrev=False,
    )
    names = top.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, text in (
        ("pretrain", "tools/train_moco.py; the run is its output_dir"),
        ("finetune", "tools/finetune.py; the run is its OUTPUT_DIR"),
        ("pipeline", "all stages of a file, from images to the report"),
    ):
        action = names.add_parser(name, help=text, description=text, allow_abbrev=False)
        action.set_defaults(parser=action)
        _add_launch_options(action)
        if name == "pipeline":
            action.add_argument(
                "file",
                type=ConfigOf("launch"),
                metavar="FILE.yaml",
                help=f"the stages: {CONFIG_HELP}",
            )
            action.add_argument(
                "--output", type=user_path, metavar="RUN", help="folder of the run, for the file's `output`"
            )
            action.add_argument(
                "--seed", type=int, metavar="N", help="of all but the trials, whose seeds are 1000 N, 1000 N + 1, ..."
            )
        else:
            action.add_argument(
                "--config-file",
                type=ConfigOf("transfer" if name == "finetune" else name),
                required=name == "finetune",
                metavar="YAML",
                help=f"of the tool: {CONFIG_HELP}",
            )
        if name == "finetune":
            action.add_argument("--trials", type=int, metavar="N", help="N runs under seeds of their own, as an array")
        if name != "pretrain":
            action.add_argument("--parallel", type=int, metavar="N", help="trials of an array that run at a time")
    _add_doctor(names)
    for name, text in (
        ("status", "a table of the stages: state, progress, why it failed"),
        ("logs", "the output of a stage"),
        ("cancel", "end all jobs of a run"),
        ("retry", "submit what failed or was cancelled, and what depends on it"),
    ):
        action = names.add_parser(name, help=text, description=text, allow_abbrev=False)
        action.add_argument("folder", type=user_path, metavar="RUN", help="folder of the run")
        if name == "status":
            action.add_argument("--json", action="store_true", help="as JSON, for programs")
        if name == "logs":
            action.add_argument("stage", metavar="STAGE", help="as `status` names it")
            action.add_argument("--follow", action="store_true", help="until the stage has ended")
            action.add_argument("--rank", type=int, default=0, metavar="N", help="of the process (default 0)")
        if name == "retry":
            action.add_argument("--wait", action="store_true", help=WAIT)
    return top


def _add_doctor(names: "argparse._SubParsersAction[Any]") -> None:
    text = "checks of a cluster before the first job: what would fail, and the line to change"
    action = names.add_parser("doctor", help=text, description=text, allow_abbrev=False)
    add = action.add_argument
    add(
        "file", nargs="?", type=ConfigOf("launch"), metavar="FILE.yaml", help=f"each stage of a pipeline: {CONFIG_HELP}"
    )
    add("--output", type=user_path, metavar="RUN", help="folder of the run (default: the file's `output`, or this one)")
    add("--no-job", action="store_true", help="submit no job: leave out what only a node can show")
    add("--queue-limit", type=int, default=300, metavar="SECONDS", help="that the job may wait to start (default 300)")
    add("--dry-run", action="store_true", help="print the job and do not submit it")
    _add_resource_options(action)


def _add_launch_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--cluster",
        choices=resources.CLUSTERS,
        default="slurm",
        help="local: processes here; debug: one, in the foreground",
    )
    add("--dry-run", action="store_true", help="check everything, print what would run, submit nothing")
    add("--wait", action="store_true", help=WAIT)
    _add_resource_options(parser)


def _add_resource_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--resources",
        type=ConfigOf("launch"),
        metavar="YAML",
        help=f"the options below: {CONFIG_HELP}",
    )
    for field in resources.FLAGS:
        kind = field.metadata["kind"]
        flag = f"--{field.name.replace('_', '-')}"
        add(flag, dest=field.name, type=kind, metavar=kind.__name__.upper(), help=field.metadata["text"])


def parse_passed_on(tool: argparse.ArgumentParser, rest: Sequence[str], own: Parser) -> argparse.Namespace:
    """Parse the words that are passed on to a tool; refuse those that neither it nor our own parser knows."""
    tool.allow_abbrev = False  # a misspelt option must not be taken for another one
    found, unknown = tool.parse_known_intermixed_args(rest)
    if unknown:
        own.passes_on_to = tool
        own.error(f"unrecognized arguments: {' '.join(unknown)}")
    return found
