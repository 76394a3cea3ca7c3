"""What the documentation names is there: files, anchors, modules, functions, tools, flags, settings."""

import ast
import importlib
import re
from pathlib import Path

import pytest

from tests.support import documents
from tests.support.documents import ROOT

PAGES = documents.pages()
PATH = re.compile(r"(?<![\w./-])(?:pretrain|transfer|tools|tests|configs|docs)/[\w./*{},-]*[\w*}/]")
TEST_FILE = re.compile(r"(?<![\w/])test_\w+\.py\b")
DOTTED = re.compile(r"(?<![\w./])(?:pretrain|transfer)(?:\.[A-Za-z_]\w*)+")

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@each_page
def test_every_relative_link_resolves(page: Path) -> None:
    broken = []
    for target in documents.links(page.read_text()):
        if "://" in target or target.startswith("mailto:"):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        there = linked.is_relative_to(ROOT) and linked.exists()
        if not there or (anchor and anchor not in documents.anchors(linked.read_text())):
            broken.append(target)
    assert broken == []


@each_page
def test_every_path_named_in_code_exists(page: Path) -> None:
    found = {name for piece in documents.code(page.read_text()) for name in PATH.findall(piece)}
    assert [name for name in sorted(found) if not exists(name)] == []


@each_page
def test_every_test_named_exists(page: Path) -> None:
    there = {path.name for path in (ROOT / "tests").rglob("test_*.py")}
    assert set(TEST_FILE.findall(page.read_text())) - there == set()


@each_page
def test_every_python_name_in_code_exists(page: Path) -> None:
    found = {name for piece in documents.code(page.read_text()) for name in DOTTED.findall(piece)}
    assert [name for name in sorted(found) if not is_defined(name)] == []


@each_page
def test_python_blocks_use_names_that_exist(page: Path) -> None:
    unknown = []
    for block in documents.python_blocks(page.read_text()):
        tree = ast.parse(block)
        modules = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(("pretrain", "transfer")):
                modules |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
        unknown += [name for name in modules.values() if not is_defined(name)]
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
                name = f"{modules[node.value.id]}.{node.attr}"
                if is_module(modules[node.value.id]) and not is_defined(name):
                    unknown.append(name)
    assert unknown == []


@each_page
def test_code_is_fenced(page: Path) -> None:
    assert documents.unfenced_code(page.read_text()) == []


@each_page
def test_nothing_outside_the_project_is_named(page: Path) -> None:
    assert "../shared" not in page.read_text()
    assert f"{ROOT}/" not in page.read_text()
    assert "../" * len(page.relative_to(ROOT).parts) not in page.read_text()


def test_every_page_of_docs_is_in_the_index() -> None:
    index = ROOT / "docs" / "README.md"
    linked = {(index.parent / target.partition("#")[0]).resolve() for target in documents.links(index.read_text())}
    assert [page for page in PAGES if ROOT / "docs" in page.parents and page not in linked | {index}] == []


def test_every_page_of_docs_is_in_the_menu_of_the_site() -> None:
    menu = (ROOT / "mkdocs.yml").read_text()
    pages = [page.relative_to(ROOT / "docs").as_posix() for page in PAGES if ROOT / "docs" in page.parents]
    assert [page for page in pages if f" {page}\n" not in menu] == [], (
        "give each new page a line under nav: in mkdocs.yml"
    )


def test_every_tool_and_configuration_has_a_line() -> None:
    reference = ROOT / "docs" / "reference"
    tools = {path.name for path in (ROOT / "tools").glob("[!_]*.py")}
    assert {name for name in tools if f"`tools/{name}`" not in (reference / "tools.md").read_text()} == set()
    named = {name for piece in documents.code((reference / "configs.md").read_text()) for name in PATH.findall(piece)}
    listed = {path for name in named for path in matches(name)}
    configs = {path for path in (ROOT / "configs").rglob("*.yaml") if not path.name.startswith("Base")}
    assert configs - listed == set()


def test_architecture_names_every_folder() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    (tree,) = (block for block in documents.code(page) if block.startswith("pretrain/ "))
    named: set[str] = set()
    parents: list[str] = []
    for line in tree.splitlines():
        if line:
            depth = (len(line) - len(line.lstrip())) // 2
            parents = [*parents[:depth], line.split()[0].rstrip("/")]
            named.add("/".join(parents))
    packages = {path.parent for top in ("pretrain", "transfer", "tools") for path in (ROOT / top).rglob("*.py")}
    there = {str(folder.relative_to(ROOT)) for folder in packages}
    assert there - named == set(), "give each new folder a line in the tree of docs/architecture.md"
    assert [name for name in sorted(named) if not (ROOT / name).is_dir()] == []


def exists(name: str) -> bool:
    """Return whether a path is there; one with * or {a,b} must match a file for each of its alternatives."""
    return all(list(ROOT.glob(path.rstrip("/"))) for path in alternatives(name))


def matches(name: str) -> set[Path]:
    return {path for alternative in alternatives(name) for path in ROOT.glob(alternative)}


def alternatives(name: str) -> list[str]:
    """Return the paths that a name with {a,b} stands for."""
    if choice := re.search(r"\{([^{}]*)\}", name):
        return [path for part in choice[1].split(",") for path in alternatives(name.replace(choice[0], part, 1))]
    return [name]


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").exists() or path.is_dir()


def is_defined(name: str) -> bool:
    """Return whether `a.b.c` is a module, or a name in the module `a.b`, which is imported only then."""
    parts = name.split(".")
    while not is_module(".".join(parts)):
        parts.pop()
    value: object = importlib.import_module(".".join(parts)) if len(parts) < len(name.split(".")) else None
    for part in name.split(".")[len(parts) :]:
        if not hasattr(value, part):
            return False
        value = getattr(value, part)
    return True
