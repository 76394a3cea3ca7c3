"""Pretrain MoCo on a folder of images."""

import argparse
import os
import sys
import textwrap

from common import cli

# isort: split
from pretrain.config import config_io
from pretrain.runtime import signals
from pretrain.runtime.errors import PretrainError
from pretrain.runtime.host import CONFIG_HELP, ConfigOf, user_path
from pretrain.runtime.invocation.naming import as_called, command_line
from pretrain.runtime.invocation.parser import Parser

WIDTH, MEANING = 120, 44  # columns of the help, and where the meaning of a setting begins

EXAMPLES = f"""\
examples:
  python tools/train_moco.py --config-file configs/pretrain/moco_v2_r18_cpu.yaml data.root IMAGES output_dir output/moco
  python tools/train_moco.py --config-file configs/pretrain/moco_v2_r18_cpu.yaml --dry-run data.root IMAGES
  torchrun --nproc-per-node 2 tools/train_moco.py --config-file configs/pretrain/moco_v2_r18_cpu.yaml \\
      data.root IMAGES output_dir output/moco model.bn_groups 1
  python tools/train_moco.py --config-file configs/pretrain/moco_v2_r18_cpu.yaml --profile data.root IMAGES \\
      output_dir output/profiled optim.epochs 1
  python tools/train_moco.py --suggest 24 --save my.yaml data.root IMAGES output_dir output/moco
  python tools/train_moco.py --config-file my.yaml
  python tools/train_moco.py --config-file configs/pretrain/moco_v2_r50_10k_images.yaml data.root IMAGES \\
      model.weights moco_v2_800ep_pretrain.pth.tar optim.epochs 130 output_dir output/continued
  (--resume added to the command that began a run resumes it, from any step; with --auto-resume the same command
  begins a run and resumes it, as a job that a cluster may start again needs it)

exit codes:
  0   finished
  2   bad input, or a run that cannot be resumed; the message says why
  {signals.EXIT_CODE}  stopped by SIGTERM, SIGINT, SIGUSR1 or SIGUSR2, and saved: start it again with --resume

settings, as KEY VALUE pairs after the options or in the YAML file, with their defaults:
"""


def _wrapped(lines: str) -> str:
    return "\n".join(textwrap.fill(line, WIDTH, subsequent_indent=" " * MEANING) for line in lines.splitlines())


def main() -> None:
    """Parse the command line and train."""
    parser = Parser(description=__doc__, epilog=EXAMPLES + _wrapped(as_called(config_io.describe())))
    parser.add_argument(
        "--config-file",
        type=ConfigOf("pretrain"),
        metavar="YAML",
        help=f"settings: {CONFIG_HELP}",
    )
    parser.add_argument("--resume", action="store_true", help="resume from the newest checkpoint in output_dir")
    parser.add_argument(
        "--auto-resume", action="store_true", help="--resume where output_dir holds a checkpoint, else begin"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the settings and what would run, write nothing")
    parser.add_argument(
        "--profile", action="store_true", help="leave a trace of a few steps, for a browser, in output_dir"
    )
    parser.add_argument(
        "--suggest",
        metavar="MACHINE",
        help="print settings for data.root with a reason for each: for a GPU of so many GB (11, 24, 80), for cpu, or "
        "for auto, the machine at hand. Those given are kept, and the others follow them",
    )
    parser.add_argument("--save", type=user_path, metavar="YAML", help="with --suggest: write them to a new file, too")
    parser.add_argument("settings", nargs="*", metavar="KEY VALUE", help="settings, over those of the file")
    arguments = parser.parse_intermixed_args()  # options may also follow the settings
    if arguments.resume and arguments.auto_resume:
        raise PretrainError("--resume and --auto-resume: give one of them")
    if arguments.suggest is not None:
        _refuse_beside_suggest(arguments)
        from common.suggested_config import print_suggestion  # it imports torch, which takes seconds

        print_suggestion(arguments.suggest, arguments.settings, arguments.save, os.environ)
        return
    if arguments.save is not None:
        raise PretrainError("--save: writes what --suggest MACHINE suggests; give that, too")
    settings = config_io.load(arguments.config_file, arguments.settings)
    from common.initial_weights import read_initial_weights  # importing these takes seconds: a typo is told before
    from pretrain import train
    from pretrain.runtime import distributed

    finished = train.run(
        settings,
        command_line(),
        None if arguments.auto_resume else arguments.resume,
        dry_run=arguments.dry_run,
        profile=arguments.profile,
        read_weights=read_initial_weights,
    )
    distributed.shutdown()
    if not finished:
        sys.exit(signals.EXIT_CODE)


def _refuse_beside_suggest(arguments: argparse.Namespace) -> None:
    """Raise PretrainError for an option that has no meaning where nothing is trained."""
    names = ("config_file", "resume", "auto_resume", "dry_run", "profile")
    given = [f"--{name.replace('_', '-')}" for name in names if getattr(arguments, name)]
    if given:
        raise PretrainError(f"--suggest: trains nothing and reads no config file; leave out {', '.join(given)}")


if __name__ == "__main__":
    cli.run(main)
