"""The results of checks, a paragraph each, and their sum."""

import shutil
import sys
import textwrap
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

OK, WARNING, WRONG, UNCHECKED = "ok", "warning", "wrong", "not checked"
_INDENT = 12
_WIDTH = 80


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        state: OK, WARNING, WRONG (a job would fail, or never start) or UNCHECKED.
        subject: what was checked.
        text: what was found.
        cure: the line to change.
    """

    state: str
    subject: str
    text: str
    cure: str = ""


def print_findings(findings: Iterable[Finding]) -> None:
    """Print findings as they come, for a terminal of 80 columns."""
    width = min(_WIDTH, shutil.get_terminal_size((_WIDTH, 0)).columns) if sys.stdout.isatty() else _WIDTH
    for finding in findings:
        print(folded(f"{finding.state:<{_INDENT}}{finding.subject}: {finding.text}", width))
        if finding.cure:
            print(folded(f"{'':<{_INDENT}}-> {finding.cure}", width))
        sys.stdout.flush()


def summary(findings: Iterable[Finding]) -> str:
    """Return the sum in a line."""
    found = list(findings)
    counts = Counter(finding.state for finding in found)
    told = ", ".join(f"{counts[state]} {state}" for state in (OK, WARNING, WRONG, UNCHECKED) if counts[state])
    wrong = dict.fromkeys(finding.subject for finding in found if finding.state == WRONG)
    end = f"to change: {', '.join(wrong)}" if wrong else "nothing found that would stop a job"
    return folded(f"{'summary':<{_INDENT}}{told}; {end}", _WIDTH)


def folded(text: str, width: int = _WIDTH) -> str:
    """Return a paragraph in lines, all but the first indented; a path that is longer than a line stays whole."""
    indent = " " * _INDENT
    return textwrap.fill(
        text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False, drop_whitespace=True
    )
