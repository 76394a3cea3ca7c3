"""The Markdown pages of the project as data: their links, their code, and the commands that they show."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from moco_transfer.command import SCRIPTS

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = ROOT / "transfer" / "report" / "templates"
HIDDEN = {".venv", ".git", "output", "build", "fixtures"}

_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"")
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?<=\n\n)    \S.*", re.MULTILINE)
_PROGRAMS = {"python", ".venv/bin/python", "torchrun", ".venv/bin/torchrun"}


def pages() -> list[Path]:
    """All Markdown files that are ours to write, without the report's templates."""
    found = (path for path in ROOT.rglob("*.md") if not HIDDEN & set(path.relative_to(ROOT).parts))
    return sorted(path for path in found if TEMPLATES not in path.parents)


def links(text: str) -> list[str]:
    """The targets of all links and pictures, also those of HTML, outside code."""
    prose = re.sub(r"`[^`\n]*`", "", _FENCE.sub("", text))
    return [first or second for first, second in _LINK.findall(prose)]


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives to the headings."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ +(.+?) *#*$", _FENCE.sub("", text), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        number = 0
        while (name := f"{slug}-{number}" if number else slug) in found:
            number += 1
        found.add(name)
    return found


def code(text: str) -> list[str]:
    """What stands in backticks and in code blocks, block by block."""
    fenced = [content for _, content in _FENCE.findall(text)]
    return fenced + re.findall(r"`([^`\n]+)`", _FENCE.sub("", text))


def unfenced_code(text: str) -> list[str]:
    """The first lines of code blocks that only their indentation makes one: no site shows them in colour."""
    return _INDENTED.findall(_FENCE.sub("", text))


def python_blocks(text: str) -> list[str]:
    return [content for language, content in _FENCE.findall(text) if language == "python"]


def commands(text: str) -> Iterator[list[str]]:
    """The words of each shell command in the ```sh blocks, in their order.

    Continued lines are joined, comments dropped, and a variable is replaced by the words that its block gives it. Lines
    of output, in ```text blocks, are no commands.
    """
    for language, content in _FENCE.findall(text):
        if language != "sh":
            continue
        variables: dict[str, list[str]] = {}
        for line in re.sub(r"\\\n\s*", "", content).splitlines():
            words = shlex.split(line, comments=True)
            if words and (given := re.fullmatch(r"([A-Z]+)=(.*)", words[0])):
                variables[f"${given[1]}"] = given[2].split()
            elif words:
                yield [part for word in words for part in variables.get(word, [word])]


def tool_call(words: list[str]) -> tuple[str, list[str]] | None:
    """The tool that a command runs and the words for it, such as ("train_moco", ["--dry-run"]); None for another one.

    It is run by its script, by Python or torchrun, or by its name after `moco-transfer` or `-m moco_transfer`.
    """
    for place, word in enumerate(words[:-1]):
        if (place == 0 and word == "moco-transfer") or words[place - 1 : place + 1] == ["-m", "moco_transfer"]:
            return SCRIPTS.get(words[place + 1], words[place + 1]), words[place + 2 :]
    if words[0] in _PROGRAMS:
        for place, word in enumerate(words):
            if re.fullmatch(r"tools/\w+\.py", word):
                return Path(word).stem, words[place + 1 :]
    return None


def written_files(text: str) -> dict[str, str]:
    """The files that a page tells its reader to write: blocks that begin with a comment of their name."""
    named = ((re.match(r"# (\w+\.(?:yaml|py))\b", content), content) for _, content in _FENCE.findall(text))
    return {name[1]: content for name, content in named if name}
