"""The parser of every tool: argparse's, with the names that the user calls tools by, and with shell completion."""

import argparse
import difflib
import os
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from . import naming

COMPLETING = "_ARGCOMPLETE"  # in the environment while a shell asks what may follow


class Parser(argparse.ArgumentParser):
    """A parser whose help keeps its lines, names tools as they are called, and answers a shell that completes.

    Attributes:
        passes_on_to: the parser of the tool that gets the words which this one does not know.
    """

    _answering = False
    passes_on_to: argparse.ArgumentParser | None = None

    def __init__(self, *args: Any, **options: Any) -> None:
        options.setdefault("prog", naming.program())
        options.setdefault("formatter_class", _Layout)
        super().__init__(*args, **options)

    def format_usage(self) -> str:
        return naming.as_called(super().format_usage())

    def format_help(self) -> str:
        return naming.as_called(super().format_help())

    def error(self, message: str) -> NoReturn:
        """End with a wrong command line's fault alone: the usage of a tool of many options would hide it."""
        known = [*self._option_string_actions, *(self.passes_on_to._option_string_actions if self.passes_on_to else ())]
        flags = re.findall(r"(?<!\S)--[\w-]+", message) if message.startswith("unrecognized") else []
        near = [flag for wrong in flags for flag in difflib.get_close_matches(wrong, known, 1)]
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        more = f", and {self.passes_on_to.prog} --help what it passes on" if self.passes_on_to else ""
        advice = f"{naming.typed(self.prog)} --help says what it takes{more}"
        self.exit(2, naming.as_called(f"error: {message}{hint}\n{advice}\n"))

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse as argparse does; where a shell asks for completions, print them and end the process."""
        if COMPLETING in os.environ:
            self._offer_names()
            if not Parser._answering:
                Parser._answering = True  # argcomplete parses what is typed so far by this very function
                import argcomplete

                argcomplete.autocomplete(self)
        return super().parse_known_args(args, namespace)

    def _offer_names(self) -> None:
        """Let a shell complete the names that the type of an option knows, beside files."""
        from argcomplete.completers import FilesCompleter

        for action in self._actions:
            names = getattr(action.type, "names", None)
            if names is not None:
                action.completer = lambda prefix, names=names, **_: [*names(), *FilesCompleter()(prefix)]  # type: ignore[attr-defined]


class _Layout(argparse.RawDescriptionHelpFormatter):
    """The layout of --help: the text of an option is wrapped with the names in it that the user knows."""

    def _expand_help(self, action: argparse.Action) -> str:
        return naming.as_called(super()._expand_help(action) or "")
