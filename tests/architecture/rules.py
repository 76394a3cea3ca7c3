"""The import rules of the house: the one table that test_layers.py holds and docs/architecture.md prints.

python -m tests.architecture.rules    writes the table into docs/architecture.md
"""

import ast
import pathlib
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- rules -->\n", "<!-- /rules -->"
STAGES = ("pretrain", "transfer", "tools")
TOOL_PACKAGES = ("common", "launcher", "benchmarks", "fault_injection", "synthetic", "exports", "scoring", "checking")

_LEAVES = "pretrain/runtime pretrain/runtime/invocation transfer/errors transfer/results transfer/predictions"
_LAYOUTS = (
    "transfer/data/coco transfer/data/voc transfer/data/cityscapes transfer/data/lvis transfer/data/semantic "
    "transfer/data/densepose transfer/data/common"
)
_DATA = f"transfer/data transfer/data/shared {_LAYOUTS}"
_EVALUATION = (
    "transfer/evaluation/common transfer/evaluation/coco transfer/evaluation/voc transfer/evaluation/cityscapes "
    "transfer/evaluation/lvis "
    "transfer/evaluation/semantic transfer/evaluation/densepose"
)
_TORCHVISION = "transfer/engines/torchvision"
_MODELING = f"{_TORCHVISION}/modeling"

# Place -> the places that it may import, from the bottom of each stage upwards; a place imports none that stands below
# it in this table. A place is a folder, or a module at the top of a stage.
RULES: dict[str, str] = {
    "pretrain/runtime/ranks": "",
    "pretrain/runtime/invocation": "",
    "pretrain/runtime/hangs": "pretrain/runtime/ranks",
    "pretrain/runtime": "pretrain/runtime/ranks pretrain/runtime/hangs pretrain/runtime/invocation",
    "pretrain/runtime/trackers": "pretrain/runtime",
    "pretrain/data/images": "pretrain/runtime",
    "pretrain/data/augment": "pretrain/runtime",
    "pretrain/models": "pretrain/runtime",
    "pretrain/checkpoints": "pretrain/runtime",
    "pretrain/output_folder": "pretrain/runtime",
    "pretrain/config": (
        "pretrain/checkpoints pretrain/models pretrain/runtime pretrain/runtime/ranks pretrain/runtime/invocation"
    ),
    "pretrain/data": "pretrain/data/images pretrain/data/augment pretrain/runtime",
    "pretrain/engine": "pretrain/models pretrain/runtime",
    "pretrain/evaluation": (
        "pretrain/data/images pretrain/models pretrain/engine pretrain/runtime pretrain/runtime/hangs"
    ),
    "pretrain/build": "pretrain/config pretrain/data/augment pretrain/models pretrain/engine pretrain/runtime",
    "pretrain/resuming": "pretrain/config pretrain/data/images pretrain/models pretrain/runtime",
    "pretrain/plan": "pretrain/*",
    "pretrain/work": "pretrain/checkpoints pretrain/config pretrain/plan pretrain/runtime",
    "pretrain/trainer": "pretrain/*",
    "pretrain/train": "pretrain/*",
    "transfer/errors": "pretrain/runtime",
    "transfer/results": "transfer/errors",
    "transfer/predictions": "",
    "transfer/visualize": "transfer/predictions",
    "transfer/config": _LEAVES,
    "transfer/data/common": _LEAVES,
    "transfer/data/shared": "pretrain/runtime transfer/errors",
    "transfer/data/coco": f"transfer/data/common {_LEAVES}",
    "transfer/data/voc": f"transfer/data/common {_LEAVES}",
    "transfer/data/cityscapes": f"transfer/data/coco transfer/data/common {_LEAVES}",
    "transfer/data/lvis": f"transfer/data/coco transfer/data/common {_LEAVES}",
    "transfer/data/semantic": f"transfer/data/cityscapes transfer/data/voc transfer/data/common {_LEAVES}",
    "transfer/data/densepose": f"transfer/data/coco transfer/data/common {_LEAVES}",
    "transfer/data": f"{_LAYOUTS} {_LEAVES}",
    "transfer/weights": _LEAVES,
    "transfer/engines": f"transfer/data/common transfer/weights {_LEAVES}",
    "transfer/engines/common": (
        f"pretrain/runtime/hangs transfer/data/common transfer/data/semantic transfer/data/shared {_LEAVES}"
    ),
    "transfer/engines/detectron2": (
        "pretrain/runtime/hangs "
        f"transfer/engines transfer/engines/common transfer/config {_DATA} transfer/weights {_LEAVES}"
    ),
    f"{_MODELING}/layers": "pretrain/runtime transfer/errors",
    f"{_MODELING}/backbone": f"{_MODELING}/layers transfer/weights",
    f"{_MODELING}/roi_heads": f"{_MODELING}/layers {_MODELING}/backbone",
    _MODELING: (
        f"{_MODELING}/layers {_MODELING}/backbone {_MODELING}/roi_heads transfer/engines/common transfer/predictions"
    ),
    f"{_TORCHVISION}/config_checks": "transfer/config transfer/data/coco transfer/errors",
    f"{_TORCHVISION}/data": (
        f"{_MODELING} {_MODELING}/layers {_MODELING}/roi_heads transfer/engines/common {_DATA} {_LEAVES}"
    ),
    _TORCHVISION: (
        "pretrain/runtime/hangs "
        f"{_TORCHVISION}/* transfer/engines transfer/engines/common transfer/config {_DATA} transfer/weights {_LEAVES}"
    ),
    "transfer/conversion": f"transfer/engines transfer/config transfer/weights {_LEAVES}",
    "transfer/evaluation/common": f"transfer/data/common {_LEAVES}",
    "transfer/evaluation/coco": f"transfer/evaluation/common transfer/data/coco transfer/data/common {_LEAVES}",
    "transfer/evaluation/voc": f"transfer/evaluation/common transfer/data/voc transfer/data/common {_LEAVES}",
    "transfer/evaluation/cityscapes": (
        f"transfer/evaluation/common transfer/data/cityscapes transfer/data/common {_LEAVES}"
    ),
    "transfer/evaluation/lvis": (
        f"transfer/evaluation/common transfer/evaluation/coco transfer/data/lvis transfer/data/common {_LEAVES}"
    ),
    "transfer/evaluation/semantic": (
        f"transfer/evaluation/common transfer/data/semantic transfer/data/voc transfer/data/common {_LEAVES}"
    ),
    "transfer/evaluation/densepose": (
        "transfer/evaluation/common transfer/evaluation/coco transfer/data/densepose transfer/data/coco "
        f"transfer/data/common {_LEAVES}"
    ),
    "transfer/evaluation": f"pretrain/runtime/hangs {_EVALUATION} {_DATA} {_LEAVES}",
    "transfer/run": (
        "transfer/config transfer/conversion transfer/engines transfer/engines/common transfer/evaluation "
        f"transfer/visualize transfer/weights pretrain/runtime/trackers pretrain/runtime/hangs {_DATA} {_LEAVES}"
    ),
    "transfer/report/labels": "transfer/evaluation/common",
    "transfer/report/published": (
        "transfer/data/cityscapes transfer/data/coco transfer/data/voc transfer/data/semantic transfer/results"
    ),
    "transfer/report": (
        "transfer/report/labels transfer/report/published transfer/config transfer/engines transfer/evaluation "
        f"{_EVALUATION} transfer/visualize {_DATA} {_LEAVES}"
    ),
    "tools/common": "pretrain/* transfer/*",
    "tools/synthetic": "pretrain/* transfer/*",
    "tools/exports": "pretrain/* transfer/*",
    "tools/scoring": "tools/common pretrain/* transfer/*",
    "tools/checking": "tools/common pretrain/* transfer/*",
    "tools/benchmarks": "tools/common pretrain/* transfer/*",
    "tools/benchmarks/detectors": "tools/benchmarks tools/common pretrain/* transfer/*",
    "tools/fault_injection": "tools/common pretrain/* transfer/*",
    "tools/launcher/health": "",
    "tools/launcher/cluster": ("tools/launcher/health pretrain/runtime pretrain/runtime/ranks pretrain/runtime/hangs"),
    "tools/launcher/stages": "tools/launcher/cluster tools/common pretrain/* transfer/*",
    "tools/launcher/view": (
        "tools/launcher/cluster tools/launcher/stages pretrain/runtime pretrain/runtime/invocation"
    ),
    "tools/launcher": "tools/launcher/* tools/common pretrain/* transfer/*",
    "tools/launcher/doctor": (
        "tools/launcher tools/launcher/health tools/launcher/cluster tools/launcher/stages tools/common"
    ),
    "tools": "tools/* pretrain/* transfer/*",
}
# A library that only one folder imports.
ONLY_HOMES = {"detectron2": "transfer/engines/detectron2", "submitit": "tools/launcher"}


def modules(folder: str) -> list[pathlib.Path]:
    """Return the Python files below a folder."""
    return sorted((ROOT / folder).rglob("*.py"))


def imported_names(path: pathlib.Path) -> set[str]:
    """Return the full dotted names that a file imports, also inside functions; `from a import b` counts as a.b."""
    package = path.relative_to(ROOT).parent.parts
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            found |= {f"{module}.{alias.name}" for alias in node.names}
    return found


def place_of(path: pathlib.Path) -> str:
    """Return the place of a file: its folder, or itself where it lies at the top of a stage's library."""
    relative = path.relative_to(ROOT)
    folder = relative.parent.as_posix()
    return relative.with_suffix("").as_posix() if folder in ("pretrain", "transfer") else folder


def imported_places(path: pathlib.Path) -> Iterator[str]:
    """Yield the places of ours that a file imports."""
    for name in imported_names(path):
        parts = name.split(".")
        if parts[0] in TOOL_PACKAGES:  # the scripts of tools/ import the packages beside them
            parts = ["tools", *parts]
        if parts[0] not in STAGES:
            continue
        while len(parts) > 1:
            target = ROOT.joinpath(*parts)
            if target.with_suffix(".py").is_file():
                yield place_of(target.with_suffix(".py"))
                break
            if target.is_dir():
                yield target.relative_to(ROOT).as_posix()
                break
            parts = parts[:-1]


def allowed(place: str) -> set[str]:
    """Return the places that a place may import; `x/*`: all in x that stand above it in the table."""
    found, above = set(), list(RULES)[: list(RULES).index(place)]
    for rule in RULES[place].split():
        found |= {known for known in above if known.startswith(rule[:-1])} if rule.endswith("*") else {rule}
    return found


def table() -> str:
    """Return the rules as a Markdown table."""

    def shown(place: str) -> str:
        if place.endswith("*"):
            return f"all of `{place[:-2]}/` above"
        return f"`{place}.py`" if (ROOT / f"{place}.py").is_file() else f"`{place}/`"

    rows = ["| place | may import |", "|---|---|"]
    for place, rule in RULES.items():
        rows.append(f"| {shown(place)} | {', '.join(map(shown, rule.split())) or 'nothing of ours'} |")
    return "\n" + "\n".join(rows) + "\n\n"


if __name__ == "__main__":
    text = PAGE.read_text()
    head, rest = text.split(BEGIN)
    PAGE.write_text(head + BEGIN + table() + END + rest.split(END)[1])
