"""Runs the tests that are to catch a fault on a copy of the tree that has it.

python -m tests.architecture.mutations.run [ID ...] [--tier test|test-all|all]

Exit code: 0 every fault is caught, 1 one is not, 2 the named tests cannot tell: without the fault they fail too.
"""

import argparse
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.architecture.mutations.every import FAULTS
from tests.architecture.mutations.fault import TEST, TEST_ALL, Fault

ROOT = Path(__file__).resolve().parents[3]
MARKS = {TEST: "not slow", TEST_ALL: "slow"}
PATIENCE = 900  # seconds; a fault may also show in tests that never end
FAILED, BROKEN_IMPORT, NONE_RAN = 1, 2, 5  # exit codes of pytest


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


def run_tests(copy: Path, tests: Iterable[str], tier: str) -> tuple[int, str]:
    """Run tests of a tier in the copy; return pytest's exit code and output."""
    options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--timeout", "240", "-m", MARKS[tier]]
    paths = os.pathsep.join([str(copy), str(copy / "tools")])
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", *options, *tests],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return FAILED, f"FAILED {', '.join(tests)} (no end after {PATIENCE} s)"
    return process.returncode, output


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


def check_without_faults(copy: Path, chosen: list[Fault]) -> list[str]:
    """Run the named tests of each file once without a fault; return a line for each file that cannot tell."""
    groups: dict[tuple[str, str], dict[str, None]] = {}
    for fault in chosen:
        for test in fault.tests:
            groups.setdefault((test.split("::")[0], fault.tier), {})[test] = None
    lines = []
    for (file, tier), tests in groups.items():
        whole = [file] if file in tests else list(tests)
        code, output = run_tests(copy, whole, tier)
        if code == NONE_RAN:
            lines.append(f"{file}: none of the named tests is in the tier {tier}")
        elif code or not re.search(r"\d+ passed", output):
            lines.append(f"{file}: fails, or is left out here, without a fault too:\n{output[-3000:]}")
    return lines


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
    with tempfile.TemporaryDirectory(prefix="mutations-") as folder:
        copy = copy_tree(Path(folder))
        if faults := check_without_faults(copy, chosen):
            print("\n".join(faults), file=sys.stderr)
            sys.exit(2)
        survivors = check(chosen, copy)
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} faults are caught")
    if survivors:
        print(f"no test catches {', '.join(survivors)}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
