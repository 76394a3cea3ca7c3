"""The report: finished runs in, one static page with its pictures out, and the same numbers as Markdown and JSON."""

import json
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from transfer.errors import TransferError
from transfer.report_content import PICTURES, describe
from transfer.run_folders import read_runs
from transfer.trials import tables

PAGE, MARKDOWN, NUMBERS = "index.html", "report.md", "report.json"
_OWN = (PICTURES, PAGE, MARKDOWN, NUMBERS)  # all that a report writes, and all that overwriting one may replace
_TEMPLATES = Path(__file__).parent
_MARKUP = re.compile(r"[\\`*\[\]<>|#&!]|(?<![0-9A-Za-z])_|_(?![0-9A-Za-z])")  # an underscore within a word is plain


def write(
    folders: Sequence[Path],
    output: Path,
    *,
    title: str = "Transfer report",
    images: int = 4,
    min_score: float = 0.5,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Read the runs in `folders`, write the report into `output`; returns what report.json holds.

    Args:
        folders: run folders, or folders that hold some at any depth.
        images: test images in the strip of detections of each table.
        min_score: detections below are not drawn, in [0, 1]. AP knows no such threshold.

    Raises:
        TransferError: a run has no result or a faulty one (all are named), or `output` holds something already.
    """
    _check_output(output, overwrite)
    runs = read_runs(folders)
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unfinished.", dir=output) as name:
        unfinished = Path(name)
        (unfinished / PICTURES).mkdir()
        numbers = json.dumps(describe(tables(runs), unfinished, title, images, min_score), indent=2, allow_nan=False)
        content = json.loads(numbers)  # the page shows what report.json holds
        (unfinished / PAGE).write_text(_render("report.html", content), encoding="utf-8")
        (unfinished / MARKDOWN).write_text(_render("report.md", content), encoding="utf-8")
        (unfinished / NUMBERS).write_text(numbers + "\n", encoding="utf-8")
        shutil.rmtree(output / PICTURES, ignore_errors=True)
        for own in _OWN:
            (unfinished / own).replace(output / own)
    return content


def _check_output(output: Path, overwrite: bool) -> None:
    if output.exists() and not output.is_dir():
        raise TransferError(f"{output}: is a file, --output names a folder")
    present = [path.name for path in output.iterdir()] if output.exists() else []
    if present and PAGE not in present:
        raise TransferError(f"{output}: is not empty and holds no report; name a folder of the report's own")
    if present and not overwrite:
        raise TransferError(f"{output}: holds a report already; name another --output, or replace it with --overwrite")


def _render(template: str, content: dict[str, Any]) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=template.endswith(".html"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=template.endswith(".html"),
        keep_trailing_newline=True,
    )
    environment.filters |= {"points": _points, "signed": _signed, "md": _escape_markdown, "percent": "{:.0%}".format}
    return environment.get_template(template).render(report=content)


def _points(value: float) -> str:
    return f"{value:.1f}"


def _signed(value: float) -> str:
    return f"{value:+.1f}".replace("-", "\N{MINUS SIGN}")


def _escape_markdown(text: object) -> str:
    """Text that stands in a Markdown table or heading as it is; markup, HTML and line breaks lose their meaning."""
    return _MARKUP.sub(r"\\\g<0>", " ".join(str(text).split()))
