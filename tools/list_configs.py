"""List the configurations that come with this program, or print one, to copy it."""

import difflib
import re
import shutil
import textwrap
from pathlib import Path

from common import cli

# isort: split
from pretrain.runtime.errors import UserError, listed
from pretrain.runtime.host import CONFIGS, config_names
from pretrain.runtime.invocation.naming import as_called
from pretrain.runtime.invocation.parser import Parser

EXAMPLES = """\
examples:
  python tools/list_configs.py
  python tools/list_configs.py coco_r50_fpn_1x > mine.yaml
"""
STAGES = {
    "pretrain": "Pretraining: tools/train_moco.py --config-file NAME",
    "transfer": "Fine-tuning: tools/finetune.py --config-file NAME",
    "launch": "Launching: tools/launch.py pipeline NAME, or --resources NAME for those that are no pipeline",
}
PART = "Not run by itself."  # in the comment of a file that others are based on
BASE = re.compile(r"^(_BASE_: +)(?![/~])(\S+)", re.MULTILINE)


def main() -> None:
    """Print the list, or one file."""
    parser = Parser(description=__doc__, epilog=EXAMPLES)
    parser.add_argument("name", nargs="?", metavar="NAME", help="print this one; its _BASE_ with the whole path")
    name = parser.parse_args().name
    if name is None:
        print(as_called("\n\n".join(map(described, STAGES))))
    else:
        print(content(find(name)), end="")


def described(stage: str) -> str:
    """Return the configurations of a stage, a line each: the name, and the first sentence of the file."""
    names = sorted(config_names(stage), key=lambda name: ("/" in name, name))
    sentences = {name: sentence(CONFIGS / stage / f"{name}.yaml") for name in names}
    shown = {name: text for name, text in sentences.items() if text}
    width, columns = max(map(len, shown)), max(80, shutil.get_terminal_size().columns)
    lines = [
        textwrap.fill(f"  {name:<{width}}  {text}", columns, subsequent_indent=" " * (width + 4))
        for name, text in shown.items()
    ]
    return "\n".join([STAGES[stage], *lines])


def sentence(path: Path) -> str:
    """Return the first sentence of the comment that a file begins with; empty for a part of others."""
    comment = re.match(r"(?:#.*\n)*", path.read_text(encoding="utf-8"))
    text = " ".join(line.lstrip("# ") for line in (comment[0] if comment else "").split("#\n")[0].splitlines())
    return "" if PART in text else re.split(r"(?<=\.) (?=[A-Z])", text)[0].removesuffix(".")


def find(name: str) -> Path:
    """Return the file of a configuration of any stage.

    Raises:
        UserError: no stage has it.
    """
    known = {each: CONFIGS / stage / f"{each}.yaml" for stage in STAGES for each in config_names(stage)}
    if name.removesuffix(".yaml") not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        raise UserError(f"{name}: there is no such configuration{f'; near it: {listed(near)}' if near else ''}")
    return known[name.removesuffix(".yaml")]


def content(path: Path) -> str:
    """Return the text of a file that works in any folder."""
    return BASE.sub(lambda found: f"{found[1]}{path.parent / found[2]}", path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    cli.run(main)
