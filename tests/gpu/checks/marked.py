"""The tests marked `gpu`, by pytest, without what pyproject.toml asks of it: its plugins may not be installed."""

import os
import signal
import subprocess
import sys
from xml.etree import ElementTree

from tests.conftest import ROOT
from tests.gpu.case import Case, Failed, LeftOut

MARK = "pytest.mark.gpu"
REPORTING = 5  # seconds that pytest is given to end and to write its report


def check(case: Case) -> None:
    """Run the files that have such tests, and note each of these tests."""
    files = [path for path in sorted((ROOT / "tests").rglob("test_*.py")) if MARK in path.read_text()]
    plain, report = case.folder / "pytest.ini", case.folder / "report.xml"
    plain.write_text("[pytest]\nmarkers =\n gpu\n slow\n detectron2\n data\n slurm\n")
    options = ["-m", "gpu", "-q", "-p", "no:cacheprovider", "--import-mode=importlib", f"--junitxml={report}"]
    command = [sys.executable, "-m", "pytest", "-c", str(plain), f"--rootdir={ROOT}", *options, *map(str, files)]
    path = os.pathsep.join([str(ROOT), str(ROOT / "tools"), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": path})
    try:
        process.wait(max(case.seconds_left - REPORTING, 1))
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)  # it reports the tests that it has done
        process.wait()
        case.do("the tests after these", _leave_out)
    if not report.exists():
        raise Failed("pytest did not run")
    for test in ElementTree.parse(report).iter("testcase"):
        case.do(test.get("name", ""), lambda test=test: _outcome(test))


def _leave_out() -> None:
    raise LeftOut("no time was left")


def _outcome(test: ElementTree.Element) -> None:
    for kind, error in (("skipped", LeftOut), ("failure", Failed), ("error", Failed)):
        found = test.find(kind)
        if found is not None:
            raise error((found.get("message") or kind).splitlines()[0])
