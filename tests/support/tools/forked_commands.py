"""Commands that moco_transfer's functions start, run by forks of a process that has imported PyTorch.

tests/moco_transfer/test_notebook.py and test_wheel.py keep the real starts: a Python each, with 4 s of imports.
"""

import functools
import os
import runpy
import subprocess
import sys
import traceback
import types
import warnings
from typing import Any

from moco_transfer import child


def fork() -> None:
    """Let `moco_transfer.run_command` fork its processes from this one, from now on."""
    child.subprocess = types.SimpleNamespace(**{**vars(subprocess), "Popen": _Forked})  # type: ignore[assignment]


class _Forked(subprocess.Popen[bytes]):
    def __init__(self, command: list[str], env: dict[str, str], **options: Any) -> None:
        sys.stdout.flush()  # or the fork would print it, too
        super().__init__(command, preexec_fn=functools.partial(_run, command, env), **options)


def _run(command: list[str], environment: dict[str, str]) -> None:
    """Do in this fork what `python -m moco_transfer ...` does; subprocess, which would start it, gets nothing back."""
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))  # the parent waits for the end of a pipe of subprocess's own
    os.environ.clear()
    os.environ.update(environment)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")  # what these are now
    warnings.resetwarnings()
    sys.argv = command[2:]
    code: Any = 0
    try:
        runpy.run_module(command[2], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
