"""The scripts of tools/: each is short, and none is imported as if it were a library."""

import ast
import pathlib

import pytest

TOOLS = pathlib.Path(__file__).resolve().parents[2] / "tools"
SCRIPTS = sorted(TOOLS.glob("*.py"))
PACKAGES = {path.name for path in TOOLS.iterdir() if (path / "__init__.py").exists()}
MOST_LINES = 120


def imported_tops(path: pathlib.Path) -> set[str]:
    """The first part of every absolute import of a file, also of those inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_short(path: pathlib.Path) -> None:
    lines = len(path.read_text().splitlines())
    assert lines <= MOST_LINES, f"{lines} lines: move the library part into a package"


def test_no_module_imports_a_script() -> None:
    scripts = {path.stem for path in SCRIPTS}
    importers = {
        path.relative_to(TOOLS).as_posix() for path in TOOLS.rglob("*.py") if imported_tops(path) & (scripts - PACKAGES)
    }
    assert importers == set()


def test_packages_import_themselves_relatively() -> None:
    for package in PACKAGES:
        for path in (TOOLS / package).rglob("*.py"):
            assert package not in imported_tops(path), path
