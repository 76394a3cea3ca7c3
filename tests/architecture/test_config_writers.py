"""A configuration is changed in transfer/config only; everywhere else it is frozen."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
HOME = ROOT / "transfer" / "config"
MODULES = [path for path in sorted((ROOT / "transfer").rglob("*.py")) if HOME not in path.parents]
CHANGES = {"defrost", "merge_from_file", "merge_from_list", "merge_from_other_cfg", "set_new_allowed"}


def changes(tree: ast.AST) -> list[str]:
    """Calls and assignments that change a configuration: `cfg.defrost()`, `config.SOLVER.BASE_LR = 0.1`."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in CHANGES:
            found.append(f"line {node.lineno}: {node.attr}")
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        for target in targets:
            if isinstance(target, ast.Attribute) and target.attr.isupper():
                found.append(f"line {target.lineno}: {ast.unparse(target)} = ...")
    return found


@pytest.mark.parametrize("path", [*MODULES, *sorted((ROOT / "tools").rglob("*.py"))], ids=str)
def test_a_configuration_is_changed_in_its_folder_only(path: pathlib.Path) -> None:
    assert changes(ast.parse(path.read_text())) == []


@pytest.mark.parametrize("line", ["cfg.defrost()", "cfg.SEED = 3", "a.cfg.SOLVER.MAX_ITER *= 2"])
def test_a_change_is_seen(line: str) -> None:
    assert changes(ast.parse(line))
