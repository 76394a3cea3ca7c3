"""What every tool does with a user's mistake, and with a bug."""

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
