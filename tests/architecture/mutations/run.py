"""Runs the tests that are to catch a fault on a copy of the tree that has it.

python -m tests.architecture.mutations.run [ID ...] [--tier test|test-all|all]

Exit code: 0 every fault is caught, 1 one is not, 2 the named tests cannot tell: without the fault they fail too.
"""

import argparse
import contextlib
import importlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import pytest

from tests.architecture.mutations.every import FAULTS
from tests.architecture.mutations.fault import TEST, TEST_ALL, Fault

ROOT = Path(__file__).resolve().parents[3]
MARKS = {TEST: "not slow", TEST_ALL: "slow"}
LIBRARIES = (
    *("numpy", "torch", "torch._dynamo", "torchvision", "cv2", "PIL.Image", "simplejpeg", "yaml", "rich"),
    *(
        "pycocotools.cocoeval",
        "fvcore.nn.precise_bn",
        "fvcore.common.config",
        "safetensors.torch",
        "submitit",
        "jinja2",
    ),
    *("matplotlib.pyplot", "torch.utils.tensorboard", "torch.multiprocessing"),
)
PATIENCE = 900  # seconds; a fault may also show in tests that never end
FAILED, BROKEN_IMPORT = 1, 2  # exit codes of pytest


def copy_tree(folder: Path) -> Path:
    """Copy the tree as it is on the disk; return the copy. The shared data lies beside it as beside the original."""
    copy = folder / "tree"
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    if (ROOT.parent / "shared").exists():
        (folder / "shared").symlink_to((ROOT.parent / "shared").resolve())
    return copy


def import_libraries() -> None:
    """Import what most tests import, none of it ours: a run of tests is forked from this process and has it."""
    os.environ["OMP_NUM_THREADS"] = "1"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in LIBRARIES:
            with contextlib.suppress(ImportError):
                importlib.import_module(name)


def run_tests(copy: Path, tests: Sequence[str], tier: str) -> tuple[int, str]:
    """Run tests of a tier in the copy, in a process and a session of their own; return its exit code and output."""
    options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--timeout", "240", "-rpfE", "-m", MARKS[tier]]
    with tempfile.TemporaryFile() as output:
        sys.stdout.flush()
        process = os.fork()
        if process == 0:
            _become_pytest(copy, [*options, *tests], output.fileno())
        code = _wait_for(process)
        output.seek(0)
        text = output.read().decode(errors="replace")
    if code is None:
        return FAILED, f"FAILED {tests[0]} (no end after {PATIENCE} s)"
    return code, text


def _become_pytest(copy: Path, words: list[str], output: int) -> NoReturn:
    """Be `python -m pytest WORDS` in the copy, started anew but for the libraries."""
    code = FAILED
    try:
        os.setsid()
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.chdir(copy)
        ours = [str(copy), str(copy / "tools")]
        os.environ["PYTHONPATH"] = os.pathsep.join(ours)  # of the processes that tests start
        sys.path[:] = [*ours, *(path for path in sys.path if path not in ("", str(ROOT)))]
        for name in [name for name in sys.modules if name.split(".")[0] == "tests"]:
            del sys.modules[name]
        sys.modules["__main__"] = importlib.import_module("pytest.__main__")
        code = int(pytest.main(words))
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _wait_for(process: int) -> int | None:
    """Return the exit code of a process, None where it takes too long; nothing of its session stays."""
    end = time.monotonic() + PATIENCE
    status = None
    while status is None and time.monotonic() < end:
        ended, found = os.waitpid(process, os.WNOHANG)
        if ended:
            status = found
        else:
            time.sleep(0.05)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)
    if status is None:
        os.waitpid(process, 0)
        return None
    return os.waitstatus_to_exitcode(status)


@contextlib.contextmanager
def with_fault(fault: Fault, copy: Path, number: int) -> Iterator[None]:
    """Put a fault into the copy, and take it out again."""
    path = copy / fault.file
    text, times = path.read_text(), path.stat()
    if text.count(fault.old) != 1:
        raise SystemExit(f"error: {fault.id}: {fault.file} has its old text {text.count(fault.old)} times")
    path.write_text(text.replace(fault.old, fault.new))
    changed = times.st_mtime + number  # Python compares whole seconds and the length with those of its cache
    os.utime(path, (changed, changed))
    yield
    path.write_text(text)
    os.utime(path, (times.st_atime, times.st_mtime))


def caught_by(output: str) -> str:
    """Return the first test that pytest names as failed."""
    named = re.search(r"^(?:FAILED|ERROR) tests/(.+?)(?: - .*)?$", output, re.MULTILINE)
    return named[1] if named else "(no test by name)"


def check_without_faults(copy: Path, chosen: list[Fault]) -> str | None:
    """Run the named tests once without a fault; return what is wrong where one does not pass, or is left out here."""
    for tier in MARKS:
        named = {test: None for fault in chosen if fault.tier == tier for test in fault.tests}
        tests = [test for test in named if test == (file := test.split("::")[0]) or file not in named]
        code, output = run_tests(copy, tests, tier) if tests else (0, "")
        if code:
            return f"a test fails without a fault too:\n{output[-5000:]}"
        passed = [line.removeprefix("PASSED ") for line in output.splitlines()]
        if never := [test for test in named if not any(line.startswith(test) for line in passed)]:
            return f"not of the tier {tier}, or left out on this machine: {', '.join(never)}"
    return None


def check(chosen: list[Fault], copy: Path) -> list[str]:
    """Print a line for each fault; return the ids of those that no test catches."""
    survivors = []
    for number, fault in enumerate(chosen, start=1):
        with with_fault(fault, copy, number):
            begun = time.monotonic()
            code, output = run_tests(copy, fault.tests, fault.tier)
            seconds = time.monotonic() - begun
        caught = code in (FAILED, BROKEN_IMPORT)
        if not caught:
            survivors.append(fault.id)
        print(
            f"{fault.id:32} {fault.tier:9} {seconds:5.0f} s  {caught_by(output) if caught else 'SURVIVES'}",
            flush=True,
        )
    return survivors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ids", nargs="*", metavar="ID", help="of faults (default: all)")
    parser.add_argument("--tier", choices=[*MARKS, "all"], default="all", help="only faults that this tier catches")
    arguments = parser.parse_args()
    known = {fault.id: fault for fault in FAULTS}
    if unknown := [name for name in arguments.ids if name not in known]:
        parser.error(f"no fault is called {', '.join(unknown)}; there are {', '.join(known)}")
    named = [known[name] for name in arguments.ids] or list(FAULTS)
    chosen = [fault for fault in named if arguments.tier in (fault.tier, "all")]
    import_libraries()
    with tempfile.TemporaryDirectory(prefix="mutations-") as folder:
        copy = copy_tree(Path(folder))
        if reason := check_without_faults(copy, chosen):
            print(f"error: {reason}", file=sys.stderr)
            sys.exit(2)
        survivors = check(chosen, copy)
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} faults are caught")
    if survivors:
        print(f"no test catches {', '.join(survivors)}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
