"""What the project promises of environments: Python versions, locked packages, and the recipes of containers."""

import ast
import re
import subprocess
import sys

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.architecture.rules import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:  # pytest brings it there
    import tomli as tomllib

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCK = (ROOT / "requirements.lock").read_text()
LOWEST = tuple(map(int, PROJECT["project"]["requires-python"].removeprefix(">=").split(".")))
OURS = ("moco_transfer", "pretrain", "transfer", "tools", "tests")


def locked(python: str) -> dict[str, str]:
    """The versions that the lock gives to a version of Python on Linux, by name."""
    environment = {
        **{"python_version": python, "python_full_version": f"{python}.0", "sys_platform": "linux", "os_name": "posix"},
        **{"platform_system": "Linux", "platform_machine": "x86_64", "implementation_name": "cpython"},
        **{"platform_python_implementation": "CPython"},
    }
    found = {}
    for line in re.findall(r"^[A-Za-z0-9].*==[^\\\n]*", LOCK, re.MULTILINE):
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate(environment):
            found[canonicalize_name(requirement.name)] = str(requirement.specifier).removeprefix("==")
    return found


@pytest.mark.parametrize("python", ["3.10", "3.12", "3.14"])
def test_the_lock_holds_all_that_the_project_asks_for(python: str) -> None:
    versions = locked(python)
    wanted = [*PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"]["dev"]]
    for requirement in map(Requirement, wanted):
        name = canonicalize_name(requirement.name)
        assert name in versions, f"{name} is not in requirements.lock: make lock"
        assert requirement.specifier.contains(versions[name], prereleases=True), f"{name}: make lock"


def test_a_release_has_one_number_and_one_date() -> None:
    version, citation = PROJECT["project"]["version"], yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == version
    assert f"## {version} - {citation['date-released']}\n" in (ROOT / "CHANGELOG.md").read_text()
    assert f"\n## {version}\n" in (ROOT / "docs/reference/releases.md").read_text()
    assert f" {version}" in (ROOT / "SECURITY.md").read_text()


def test_every_locked_file_has_its_hash() -> None:
    pins = re.split(r"^(?=[A-Za-z0-9])", LOCK, flags=re.MULTILINE)[1:]
    assert len(pins) > 50
    assert [pin.splitlines()[0] for pin in pins if "--hash=sha256:" not in pin] == []


def test_every_dependency_says_from_which_version_on() -> None:
    for requirement in map(Requirement, PROJECT["project"]["dependencies"]):
        assert [spec.operator for spec in requirement.specifier] == [">="], requirement


def test_all_code_is_syntax_of_the_lowest_python() -> None:
    for folder in OURS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            ast.parse(path.read_bytes(), path.name, feature_version=LOWEST)
    assert PROJECT["tool"]["ruff"]["target-version"] == f"py{LOWEST[0]}{LOWEST[1]}"


def instructions() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile with their words, in order."""
    lines = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text()).splitlines()
    pairs = [line.partition(" ") for line in lines if line and not line.startswith("#")]
    return [(name, words.strip()) for name, _, words in pairs]


def copied() -> list[str]:
    """What the Dockerfile copies from the checkout."""
    words = [words.split() for name, words in instructions() if name == "COPY" and not words.startswith("--from")]
    return [source for line in words for source in line[:-1]]


def test_a_container_gets_files_that_are_there_and_sent() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    sent = [line[1:] for line in ignored if line.startswith("!")]
    assert "*" in ignored
    assert sorted(copied()) == sorted(sent)
    assert [path for path in sent if not (ROOT / path).exists()] == []
    folders = {pattern.split("/")[0] for pattern in PROJECT["tool"]["setuptools"]["package-data"]["moco_transfer.code"]}
    assert folders | {"moco_transfer", "pyproject.toml", "README.md", *PROJECT["project"]["license-files"]} <= {*sent}


def test_both_containers_are_made_by_the_same_steps() -> None:
    apptainer = (ROOT / "apptainer.def").read_text()
    steps = [words for name, words in instructions() if name == "RUN" and words.startswith("pip ")]
    assert len(steps) == 4
    assert re.findall(r"^ +(pip install .*)$", apptainer, re.MULTILINE) == steps
    assert [line.split()[0] for line in re.findall(r"^ +(.* /src/.*)$", apptainer, re.MULTILINE)] == copied()
    base = dict(words.split("=", 1) for name, words in instructions() if name == "ARG")["BASE"]
    assert f"From: {base}\n" in apptainer


def test_shells_can_read_the_steps_of_containers() -> None:
    apptainer = (ROOT / "apptainer.def").read_text()
    sections = re.split(r"^%(\w+)\n", apptainer, flags=re.MULTILINE)
    scripts = [text for name, text in zip(sections[1::2], sections[2::2], strict=True) if name != "files"]
    for script in [*scripts, *(words for name, words in instructions() if name == "RUN")]:
        done = subprocess.run(["sh", "-n"], input=script, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
