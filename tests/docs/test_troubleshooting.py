"""The messages and exit codes of docs/reference/troubleshooting.md are those of the code."""

import ast
import re
from collections.abc import Iterator

from common import cli
from launcher.health.start import UNHEALTHY
from pretrain.runtime import signals
from pretrain.runtime.hangs import watch
from tests.support.documents import ROOT

PAGE = (ROOT / "docs" / "reference" / "troubleshooting.md").read_text()
WORDS = re.compile(r"(?<![\w'])[a-z]+(?: [a-z]+)+")  # what a message says, beside the names and numbers in it
NOT_OURS = ("no module named", "no space left on device")


def texts() -> Iterator[str]:
    """Yield every text of the code, without what an f-string fills in."""
    for top in ("pretrain", "transfer", "tools", "moco_transfer"):
        for path in (ROOT / top).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield node.value


def test_every_message_of_the_page_is_one_of_the_code() -> None:
    said = "\n".join(texts())
    section = PAGE[PAGE.index("## Messages") : PAGE.index("## A run that learns nothing")]
    cells = re.findall(r"^\| (.*?) \| .* \| .* \|$", section, re.MULTILINE)
    messages = [message for cell in cells for message in re.findall(r"`([^`]+)`", cell)]
    assert len(messages) > 25
    missing = [
        f"{words!r} of {message!r}"
        for message in messages
        for words in WORDS.findall(message)
        if words not in said and not any(words in text or text in words for text in NOT_OURS)
    ]
    assert missing == []


def test_every_exit_code_is_on_the_page() -> None:
    table = PAGE[PAGE.index("## Exit codes") : PAGE.index("## Messages")]
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)}
    assert listed == {0, 1, cli.BAD_INPUT, signals.EXIT_CODE, watch.HUNG, UNHEALTHY, cli.INTERRUPTED, cli.PIPE_CLOSED}
