"""The house of docs/architecture.md: what each folder may import, how large it is, and how its words read."""

import ast
import pathlib
import re

import pytest

from tests.architecture.rules import (
    BEGIN,
    END,
    ONLY_HOMES,
    PAGE,
    ROOT,
    RULES,
    STAGES,
    allowed,
    imported_names,
    imported_places,
    modules,
    place_of,
    table,
)

MOST_MODULES, MOST_SCRIPTS = 14, 20
LIBRARY = [path for stage in STAGES for path in modules(stage)]
TESTS = [path for path in sorted((ROOT / "tests").rglob("*.py")) if path.parent.name != "slurm"]
ODD_BEGINNING = re.compile(r"(What|Whether|Where|How|Of|Until|Which)\b")


def name(path: pathlib.Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", LIBRARY, ids=name)
def test_a_module_imports_what_its_place_may(path: pathlib.Path) -> None:
    place = place_of(path)
    if path.name == "__init__.py" and place not in RULES:
        return  # the package's own docstring
    assert set(imported_places(path)) - {place} <= allowed(place)


def test_no_place_imports_one_further_down_the_table() -> None:
    order = list(RULES)
    for place in RULES:
        assert all(order.index(other) < order.index(place) for other in allowed(place) if other in order), place


def test_transfer_sees_pretrain_through_one_door() -> None:
    seen = {place for path in modules("transfer") for place in imported_places(path) if place.startswith("pretrain")}
    assert seen == {f"pretrain/runtime{part}" for part in ("", "/invocation", "/trackers", "/hangs")}


@pytest.mark.parametrize(("library", "home"), ONLY_HOMES.items())
def test_one_place_only_imports(library: str, home: str) -> None:
    users = {name(path) for path in LIBRARY if library in {found.split(".")[0] for found in imported_names(path)}}
    assert {user for user in users if not user.startswith(home)} == set()


def test_no_tool_is_named_after_a_package() -> None:
    scripts = {path.stem for path in (ROOT / "tools").glob("*.py")}
    assert scripts.isdisjoint(STAGES)  # `python tools/pretrain.py` would import itself as `pretrain`


def test_the_page_prints_the_rules() -> None:
    printed = PAGE.read_text().split(BEGIN)[1].split(END)[0]
    assert printed == table(), "python -m tests.architecture.rules writes it"


@pytest.mark.parametrize("stage", [*STAGES, "tests"])
def test_a_folder_can_be_overlooked(stage: str) -> None:
    for folder in {path.parent for path in modules(stage)}:
        count = sum(path.name != "__init__.py" for path in folder.glob("*.py"))
        assert count <= (MOST_SCRIPTS if name(folder) in ("tools", "tests/tools") else MOST_MODULES), name(folder)


@pytest.mark.parametrize("stage", ["pretrain", "transfer"])
def test_a_folder_is_a_package_of_the_wheel(stage: str) -> None:
    assert [name(path.parent) for path in modules(stage) if not (path.parent / "__init__.py").exists()] == []


@pytest.mark.parametrize("path", LIBRARY, ids=name)
def test_docstrings_begin_as_sentences_do(path: pathlib.Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node) or ""
            assert not ODD_BEGINNING.match(text), f"line {getattr(node, 'lineno', 1)}: {text.splitlines()[0]}"


@pytest.mark.parametrize("path", TESTS, ids=name)
def test_a_test_is_named_by_a_short_claim(path: pathlib.Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            assert len(node.name) <= 60, node.name
