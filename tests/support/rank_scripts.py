"""Scripts that processes of one run execute, framed as the tools are."""

import pathlib

from tests.conftest import ROOT

HEAD = """\
import os, sys, time
sys.path[:0] = [{root!r}, {tools!r}]
from common import cli
from pretrain.runtime import distributed
from pretrain.runtime.errors import PretrainError, UserError
rank = int(os.environ.get("RANK") or os.environ["SLURM_PROCID"])
SETTINGS = {{}}

def main():
{body}

cli.run(main)
"""
JOIN = 'distributed.init("cpu", SETTINGS)\n'
FOREVER = "distributed.barrier()\ntime.sleep(1000)"


def write_script(folder: pathlib.Path, body: str) -> pathlib.Path:
    """Write a script that executes `body` as a tool executes its `main`; it knows its `rank`."""
    script = folder / "script.py"
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    script.write_text(HEAD.format(root=str(ROOT), tools=str(ROOT / "tools"), body=lines))
    return script
