"""What every tool does with a user's mistake, and with a bug."""

import subprocess
import sys
from pathlib import Path

import pytest

from common import cli
from pretrain.runtime import signals
from pretrain.runtime.errors import StorageError
from transfer.errors import TransferError


def failing(error: BaseException):
    def main() -> None:
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (TransferError("x.yaml: no such file"), "error: x.yaml: no such file\n"),
        (TransferError("Caught in worker 0.\nTransferError: a.jpg: not an image"), "error: a.jpg: not an image\n"),
        (PermissionError(13, "Permission denied", "/out"), "error: /out: Permission denied\n"),
    ],
)
def test_a_users_mistake_is_a_message_and_exit_code_2(error, message, capsys, monkeypatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(SystemExit) as caught:
        cli.run(failing(error))
    assert caught.value.code == 2
    assert capsys.readouterr().err == message


@pytest.mark.parametrize("bug", [KeyError("x"), OSError("no file in it")])
def test_a_bug_keeps_its_traceback(bug) -> None:
    with pytest.raises(type(bug)):
        cli.run(failing(bug))


def test_an_outage_of_the_storage_may_be_tried_again() -> None:
    with pytest.raises(SystemExit) as ended:
        cli.run(failing(StorageError("images: Stale file handle")))
    assert ended.value.code == signals.EXIT_CODE


def test_a_closed_pipe_ends_a_tool_without_a_traceback() -> None:
    tools = Path(cli.__file__).parents[1]
    code = "from common import cli; cli.run(lambda: [print('x' * 1000) for _ in range(1000)])"
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=tools, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={"PYTHONPATH": f"{tools}:{tools.parent}"},
    ) as tool:  # fmt: skip
        tool.stdout.readline()
        tool.stdout.close()
        assert tool.stderr.read() == b""
    assert tool.returncode == cli.PIPE_CLOSED
