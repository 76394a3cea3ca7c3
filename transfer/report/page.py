"""The report of finished runs: a static page, its figures also as SVG, its numbers as Markdown, CSV and JSON."""

import base64
import calendar
import datetime
import json
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from transfer.errors import TransferError, refuse
from transfer.report import MARKDOWN, NUMBERS, PAGE
from transfer.report.content import PICTURES, Options, describe_tables
from transfer.report.csv_files import CSV, write_csv
from transfer.report.figures import FIGURES, draw_figures, draw_label_curves, inline
from transfer.report.mistakes import describe_mistakes
from transfer.report.run_folders import read_runs
from transfer.report.summary import signed
from transfer.report.tables import build_tables

_FOLDERS = (PICTURES, FIGURES, CSV)
_WRITTEN = (*_FOLDERS, MARKDOWN, NUMBERS, PAGE)  # by a report, and replaced by the next
_UNFINISHED = ".unfinished."  # begins the name of the folder that a report is written to first
_TEMPLATES = Path(__file__).with_name("templates")
_MARKUP = re.compile(r"[\\`*\[\]<>|#&!]|(?<![0-9A-Za-z])_|_(?![0-9A-Za-z])")  # not _ within a word


def write_report(folders: Sequence[Path], output: Path, options: Options, *, overwrite: bool = False) -> dict[str, Any]:
    """Read the runs in `folders` and write their report into `output`; return the content of report.json.

    Args:
        folders: run folders, or folders that hold run folders at any depth.
        output: a new or empty folder, or with `overwrite` that of an earlier report.

    Raises:
        TransferError: a run has no result or a faulty one (all are named), `output` holds something already, or an
            option is out of range.
    """
    _check_options(options)
    _check_output(output, overwrite)
    runs = read_runs(folders)
    output.mkdir(parents=True, exist_ok=True)
    for left in output.glob(f"{_UNFINISHED}*"):
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=_UNFINISHED, dir=output) as name:
        unfinished = Path(name)
        for folder in _FOLDERS:
            (unfinished / folder).mkdir()
        numbers = json.dumps(describe_tables(build_tables(runs), unfinished, options), indent=2, allow_nan=False)
        content = json.loads(numbers)  # every other file shows what report.json holds
        (unfinished / NUMBERS).write_text(numbers + "\n", encoding="utf-8")
        files = {
            "label_figures": draw_label_curves(content["label_curves"], unfinished),
            "figures": [
                draw_figures(table, unfinished, place) for place, table in enumerate(content["tables"], start=1)
            ],
            "csv": write_csv(content, unfinished),
        }
        for page, template in ((PAGE, "report.html"), (MARKDOWN, "report.md")):
            (unfinished / page).write_text(_render(template, unfinished, content, files), encoding="utf-8")
        for folder in _FOLDERS:
            shutil.rmtree(output / folder, ignore_errors=True)
        for own in _WRITTEN:
            (unfinished / own).replace(output / own)
    return content


def _check_options(options: Options) -> None:
    faults = {
        f"--images {options.images}: a number from 0 up is expected": options.images < 0,
        f"--min-score {options.min_score}: a score from 0 to 1 is expected": options.min_score is not None
        and not 0 <= options.min_score <= 1,
        f"--resamples {options.resamples}: a number from 0 up is expected": options.resamples < 0,
    }
    refuse([fault for fault, found in faults.items() if found])


def _check_output(output: Path, overwrite: bool) -> None:
    if output.exists() and not output.is_dir():
        raise TransferError(f"{output}: is a file; --output must name a folder")
    names = [path.name for path in output.iterdir()] if output.exists() else []
    present = [name for name in names if not name.startswith(_UNFINISHED)]  # ignores what a killed process left
    cut_short = overwrite and len(present) < len(names) and set(present) <= set(_WRITTEN)
    if present and PAGE not in present and not cut_short:
        raise TransferError(f"{output}: is not empty and holds no report; name an empty or new folder")
    if present and not overwrite:
        raise TransferError(f"{output}: holds a report already; name another --output, or replace it with --overwrite")


def _render(template: str, folder: Path, content: dict[str, Any], files: dict[str, Any]) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=template.endswith(".html"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=template.endswith(".html"),
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "points": _points,
        "signed": signed,
        "md": escape_markdown,
        "counted": _counted,
        "svg": lambda file: inline(folder / file),
        "inlined": lambda file: data_url(folder / file),
        "mistakes": describe_mistakes,
        "day": _day,
    }
    return environment.get_template(template).render(report=content, **files)


def _points(value: float) -> str:
    return f"{value:.1f}"


def _day(stamp: str) -> str:
    """Return "28 November 2026, 21:45 UTC" for a time in ISO format, in UTC."""
    time = datetime.datetime.fromisoformat(stamp)
    return f"{time.day} {calendar.month_name[time.month]} {time:%Y, %H:%M} UTC"


def _counted(count: int, noun: str) -> str:
    """Return "1 class" or "5 classes"."""
    if count == 1:
        return f"1 {noun}"
    return f"{count:,} {noun}{'es' if noun.endswith('s') else 's'}"


def data_url(picture: Path) -> str:
    """Return a JPEG file as a URL that holds its bytes, so that the page needs no file beside it."""
    return f"data:image/jpeg;base64,{base64.b64encode(picture.read_bytes()).decode()}"


def escape_markdown(text: object) -> str:
    """Escape text for a Markdown table or heading, so that markup, HTML and line breaks lose their meaning."""
    return _MARKUP.sub(r"\\\g<0>", " ".join(str(text).split()))
