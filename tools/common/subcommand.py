"""The sub-commands of a tool that does the same for several kinds of data, one module for each."""

import argparse
from collections.abc import Callable, Sequence
from typing import NamedTuple


class SubCommand(NamedTuple):
    """A sub-command of a tool.

    Args:
        name: as users type it.
        summary: its line in --help.
        examples: command lines, without "python tools/".
        add_flags: gives a parser the flags of this sub-command, and by `set_defaults` the function that does its work.
        notes: a paragraph for the end of --help.
    """

    name: str
    summary: str
    examples: Sequence[str]
    add_flags: Callable[[argparse.ArgumentParser], None]
    notes: str = ""

    def epilog(self, notes: str) -> str:
        """Return the end of this sub-command's --help: its examples, its own notes and those of the tool."""
        return "\n\n".join(part for part in (_examples([self]), self.notes, notes) if part)


def described(subcommands: Sequence[SubCommand]) -> str:
    """Return a line for each sub-command: its name and its summary."""
    width = max(len(one.name) for one in subcommands)
    return "\n".join(f"{one.name:<{width}}  {one.summary}" for one in subcommands)


def add_subcommands(
    parser: argparse.ArgumentParser,
    subcommands: Sequence[SubCommand],
    common: argparse.ArgumentParser,
    notes: str,
) -> None:
    """Give a tool's parser its sub-commands, and the examples and notes of all of them.

    Args:
        common: the flags that every sub-command has.
        notes: of the tool as a whole, for the end of every --help.
    """
    own = [one.notes for one in subcommands if one.notes]
    parser.epilog = "\n\n".join([_examples(subcommands), *own, notes])
    chosen = parser.add_subparsers(required=True, metavar="|".join(one.name for one in subcommands))
    for one in subcommands:
        made = chosen.add_parser(one.name, parents=[common], help=one.summary, epilog=one.epilog(notes))
        one.add_flags(made)


def _examples(subcommands: Sequence[SubCommand]) -> str:
    lines = [f"  python tools/{example}" for one in subcommands for example in one.examples]
    return "\n".join(["examples:", *lines])
