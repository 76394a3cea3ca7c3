"""The command `moco-transfer`: each sub-command runs a script of tools/, so that both are the same code.

In a wheel the folders pretrain/, transfer/, tools/ and configs/ lie in code/ beside this file; in a clone, above it.
They are found first by this process and by those that it starts, and by no other: a `transfer` or `tools` of
somebody else stays what it is.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE / "code" if (HERE / "code").is_dir() else HERE.parent
NAME = "moco-transfer"  # of the command, and of what pip installs
# Group of --help -> sub-command -> the script of tools/ that it runs, and its line.
GROUPS = {
    "From images to the report": {
        "pretrain": ("train_moco", "pretrain MoCo on a folder of images"),
        "convert": ("convert", "make a backbone for detectors, torchvision or timm of a pretrained file"),
        "finetune": ("finetune", "fine-tune a detector from a backbone and evaluate it"),
        "report": ("report", "compare finished runs on one page"),
        "demo": ("demo", "do all of it on made-up scenes, in about ten minutes on two cores"),
        "launch": ("launch", "run these on a SLURM cluster or on this machine, one of them or all"),
    },
    "Your data": {
        "check-images": ("check_images", "find broken and silently damaged images"),
        "check-dataset": ("check_dataset", "find the faults of annotations and results"),
        "convert-dataset": ("convert_dataset", "convert labels of other tools into COCO's layout, and split them"),
        "make-scenes": ("make_scenes", "make a small data set of patterned discs, to try things on"),
    },
    "Looking at results": {
        "show-views": ("show_views", "draw the augmented views of some images"),
        "neighbours": ("neighbours", "draw the nearest neighbours of some images by a backbone's features"),
        "linear-probe": ("linear_probe", "train and test a linear classifier on a frozen backbone"),
        "predict": ("predict", "run a detector over images, and draw what it finds"),
        "evaluate": ("evaluate", "score existing predictions against ground truth"),
    },
    "This program": {
        "configs": ("list_configs", "list the configurations that come with it, or print one"),
        "benchmark": ("benchmark", "time it against MoCo's published code"),
        "torture": ("torture", "kill pretraining again and again; it must end as if nothing had happened"),
    },
}
SCRIPTS = {name: script for group in GROUPS.values() for name, (script, _) in group.items()}


def main() -> None:
    """Run the sub-command that the command line names, in this process."""
    sys.path[:0] = [str(ROOT / "tools"), str(ROOT)]
    from common import cli
    from pretrain.runtime.invocation import naming, parser

    os.environ[naming.BY_COMMAND] = "1"
    words = sys.argv[1:]
    if parser.COMPLETING in os.environ:
        words = _ended_sub_command(os.environ.get("COMP_LINE", ""))
        if words:
            os.environ[parser.COMPLETING] = "2"  # so many words of the line are the program's name
    if not words or words[0] not in SCRIPTS:
        cli.run(_answer_without_tool)
        return
    script = SCRIPTS[words[0]]
    sys.argv = [f"{NAME} {words[0]}", *words[1:]]
    cli.run(lambda: importlib.import_module(script).main())


def _ended_sub_command(line: str) -> list[str]:
    """Return the sub-command on a line that a shell completes, if its word is ended: what follows is its own."""
    words = line.split(" ")
    return words[1:2] if len(words) > 2 and words[1] in SCRIPTS else []


def _answer_without_tool() -> None:
    """Answer a command line that names no sub-command: by --help, by --version, or by an error."""
    from pretrain.runtime.errors import UserError
    from pretrain.runtime.invocation.parser import Parser

    top = Parser(
        prog=NAME,
        usage=f"{NAME} COMMAND ...",
        description=f"What a MoCo backbone is worth for detection and segmentation.\n{_described_commands()}",
        epilog=f"`{NAME} COMMAND --help` explains a command, with examples.",
    )
    top.add_argument("--version", action="version", version=f"{NAME} {_version()}")
    word = top.add_argument("command", nargs="?", metavar="COMMAND", help=argparse.SUPPRESS)
    word.completer = lambda **_: SCRIPTS  # type: ignore[attr-defined]  # argcomplete asks it
    name = top.parse_args(sys.argv[1:2]).command
    near = difflib.get_close_matches(name or "", SCRIPTS, n=3)
    hint = f"; near it: {', '.join(near)}" if near else ""
    fault = f"there is no command {name!r}{hint}" if name else "no command is given"
    raise UserError(f"{fault}. `{NAME} --help` lists all")


def _described_commands() -> str:
    """Return the sub-commands in their groups, a line each."""
    width = max(map(len, SCRIPTS))
    lines = []
    for group, commands in GROUPS.items():
        lines += ["", f"{group}:", *(f"  {name:<{width}}  {text}" for name, (_, text) in commands.items())]
    return "\n".join(lines)


def _version() -> str:
    from importlib import metadata

    try:
        return metadata.version(NAME)
    except metadata.PackageNotFoundError:
        return f"of a clone that is not installed: {ROOT}"
