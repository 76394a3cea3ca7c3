"""Texts name tools as their user calls them: by the script in a clone, by the command where it is installed."""

import pytest

from pretrain.runtime.errors import UserError, user_message
from pretrain.runtime.invocation import naming

TEXTS = {
    "python tools/train_moco.py --config-file my.yaml": "moco-transfer pretrain --config-file my.yaml",
    "  .venv/bin/python tools/check_images.py ROOT": "  moco-transfer check-images ROOT",
    "(tools/convert.py reads it)": "(moco-transfer convert reads it)",
    "torchrun --nproc-per-node 2 tools/linear_probe.py": "torchrun --nproc-per-node 2 -m moco_transfer linear-probe",
    "python -m torch.distributed.run --standalone tools/train_moco.py \\": (
        "python -m torch.distributed.run --standalone -m moco_transfer pretrain \\"
    ),
    "python tools/finetune.py --config-file configs/transfer/voc_r50_c4_24k.yaml": (
        "moco-transfer finetune --config-file voc_r50_c4_24k"
    ),
    "configs/pretrain/ablations/queue_256.yaml": "ablations/queue_256",
    "/run/code/0af3/tools/train_moco.py": "/run/code/0af3/tools/train_moco.py",  # a file, not a command
    "/home/me/configs/transfer/mine.yaml": "/home/me/configs/transfer/mine.yaml",
}


@pytest.mark.parametrize(("text", "called"), TEXTS.items())
def test_texts_for_the_command_name_its_sub_commands(text: str, called: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(naming.BY_COMMAND, raising=False)
    assert naming.as_called(text) == text
    monkeypatch.setenv(naming.BY_COMMAND, "1")
    assert naming.as_called(text) == called
    assert user_message(UserError(text)) == called.strip()


def test_command_line_can_be_typed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["moco-transfer pretrain", "data.root", "my images"])
    assert naming.command_line() == ["moco-transfer", "pretrain", "data.root", "my images"]
    assert naming.program() == "moco-transfer pretrain"
    monkeypatch.setattr("sys.argv", ["tools/train_moco.py", "data.root", "my images"])
    assert naming.command_line() == ["python", "tools/train_moco.py", "data.root", "my images"]
    assert naming.program() == "train_moco.py"
