"""The layers of docs/architecture.md, read from every import statement, also those inside functions."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
OURS = ("pretrain", "transfer", "tools")
# All that transfer may see of pretrain, and it knows nothing else of ours.
DOOR = "pretrain.runtime"
TOOL_MODULES = {path.stem for path in (ROOT / "tools").glob("*.py")}


def modules(package: str) -> list[pathlib.Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imports(path: pathlib.Path) -> set[str]:
    """Full dotted names that `path` imports; `from a import b` counts as a.b where a/b is a module, else as a."""
    package = path.relative_to(ROOT).parent.parts
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            for alias in node.names:
                inner = f"{module}.{alias.name}"
                found.add(inner if is_module(inner) else module)
    return found


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def top(name: str) -> str:
    return name.split(".")[0]


@pytest.mark.parametrize("path", modules("pretrain"), ids=str)
def test_pretrain_imports_nothing_else_of_ours(path: pathlib.Path) -> None:
    assert {name for name in imports(path) if top(name) in OURS and top(name) != "pretrain"} == set()


@pytest.mark.parametrize("path", modules("transfer"), ids=str)
def test_transfer_sees_pretrain_through_its_door_alone(path: pathlib.Path) -> None:
    ours = {name for name in imports(path) if top(name) in OURS and top(name) != "transfer"}
    assert {name for name in ours if not name.startswith(DOOR)} == set()


@pytest.mark.parametrize("path", modules("pretrain") + modules("transfer"), ids=str)
def test_nothing_imports_tools(path: pathlib.Path) -> None:
    assert {name for name in imports(path) if top(name) == "tools" or name in TOOL_MODULES} == set()


@pytest.mark.parametrize(
    ("library", "home"),
    [("detectron2", "transfer/engines/detectron2/"), ("submitit", "tools/launcher/")],
)
def test_one_place_alone_imports(library: str, home: str) -> None:
    users = {
        path.relative_to(ROOT).as_posix()
        for package in OURS
        for path in modules(package)
        if library in {top(name) for name in imports(path)}
    }
    assert {user for user in users if not user.startswith(home)} == set()


def test_no_tool_is_named_after_a_package() -> None:
    assert TOOL_MODULES.isdisjoint(OURS)  # `python tools/pretrain.py` would import itself as `pretrain`


@pytest.mark.parametrize("path", modules("pretrain/runtime"), ids=str)
def test_the_door_imports_nothing_else_of_ours(path: pathlib.Path) -> None:
    assert {name for name in imports(path) if top(name) in OURS and not name.startswith(DOOR)} == set()
