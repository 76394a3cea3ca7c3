"""tools/launcher/cluster/block_signals.py: from the first moment of a task on, no signal is fatal and none is lost."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.cluster import block_signals
from pretrain.runtime import signals

TOOL = """
import os, sys
print("up", flush=True)
sys.stdin.readline()
from pretrain.runtime import signals
with signals.StopRequest() as stop:
    print(stop.name, os.getcwd(), os.environ["PYTHONPATH"])
"""


@pytest.mark.parametrize("number", signals.STOPPING)
def test_a_signal_waits_until_it_can_be_noted(number: signal.Signals, tmp_path: Path) -> None:
    command = [sys.executable, "-I", "-S", block_signals.__file__, str(tmp_path), sys.executable, "-c", TOOL]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as process:
        assert process.stdout.readline() == "up\n"  # that Python's start could have been killed by it
        process.send_signal(number)
        printed = process.communicate("go on\n")[0].split(maxsplit=2)
    assert printed[:2] == [number.name, str(tmp_path)]
    assert printed[2].split(os.pathsep)[:2] == [str(tmp_path), str(tmp_path / "tools")]


def test_it_blocks_what_a_run_can_note() -> None:
    assert set(block_signals.STOPPING) == set(signals.STOPPING)  # it can import nothing that would show it
