"""The name by which a tool is called: `moco-transfer pretrain`, or in a clone `python tools/train_moco.py`.

Texts name tools by their scripts, and shipped configurations by their files. `as_called` turns them into what a user
of the installed command types.
"""

import os
import re
import sys

COMMAND = "moco-transfer"
PACKAGE = "moco_transfer"
BY_COMMAND = "MOCO_TRANSFER_COMMAND"  # set by the command, for the processes and jobs that it starts, too

_OWN_NAMES = {"train_moco": "pretrain", "list_configs": "configs"}  # the others are called as their script is
# Not within a longer path: of a copy of the code, or of somebody's own folder.
_SCRIPT = r"(?<![\w./-])tools/(\w+)\.py"
_UNDER_TORCHRUN = re.compile(rf"((?:torchrun|-m torch\.distributed\.run)\b[^\n|;]*? ){_SCRIPT}")
_BY_PYTHON = re.compile(rf"(?:(?:\.venv/bin/)?python3? )?{_SCRIPT}")
_CONFIG = re.compile(r"(?<![\w./-])configs/(?:pretrain|transfer|launch)/([\w./-]+)\.yaml")


def sub_command(script: str) -> str:
    """Return the sub-command that runs a script of tools/, named without its suffix."""
    return _OWN_NAMES.get(script, script.replace("_", "-"))


def is_by_command() -> bool:
    """Return True where this process or one before it was started by the command, not by a script."""
    return BY_COMMAND in os.environ


def as_called(text: str) -> str:
    """Return a text for the user, in which tools and shipped configurations have the names that he calls them by."""
    if not is_by_command():
        return text
    text = _UNDER_TORCHRUN.sub(lambda found: f"{found[1]}-m {PACKAGE} {sub_command(found[2])}", text)
    text = _BY_PYTHON.sub(lambda found: f"{COMMAND} {sub_command(found[1])}", text)
    return _CONFIG.sub(r"\1", text)


def program() -> str:
    """Return the name of this program for its usage line."""
    return sys.argv[0] if _typed_command() else os.path.basename(sys.argv[0])


def typed(program_and_action: str) -> str:
    """Return what a usage line begins with, "launch.py status", as it can be typed: "python tools/launch.py status"."""
    name, space, action = program_and_action.partition(" ")
    return f"python {sys.argv[0]}{space}{action}" if name == os.path.basename(sys.argv[0]) else program_and_action


def command_line() -> list[str]:
    """Return the words that started this process, as a user can type them again."""
    return [*sys.argv[0].split(), *sys.argv[1:]] if _typed_command() else ["python", *sys.argv]


def _typed_command() -> bool:
    return sys.argv[0].startswith(f"{COMMAND} ")
