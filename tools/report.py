"""Write the report of finished fine-tuning runs: one static page, its figures as SVG, its numbers as CSV and JSON."""

import argparse
from typing import Any

from common import cli

# isort: split
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pretrain.runtime.files import naming_full_disk
from pretrain.runtime.host import user_path
from pretrain.runtime.invocation.parser import Parser
from transfer.report.summary import signed

EXAMPLES = """examples:
  # all runs below a folder; trials of one start and one configuration become one row
  python tools/report.py output/voc --output output/voc/report

  # chosen runs
  python tools/report.py output/voc/random_1 output/voc/random_2 output/voc/moco_1 output/voc/moco_2 \\
      --output output/report
"""

_MOST_MAILED = 18  # MB, which mail makes a third larger: many servers refuse more than 25


def parse_arguments() -> argparse.Namespace:
    parser = Parser(description=__doc__, epilog=EXAMPLES)
    add = parser.add_argument
    add(
        "runs",
        nargs="+",
        type=user_path,
        metavar="RUN",
        help="run folder of tools/finetune.py, or a folder that holds some",
    )
    add(
        "--output",
        type=user_path,
        required=True,
        metavar="DIR",
        help="folder to write index.html, report.md, report.json, csv/, figures/ and pictures/ to",
    )
    add("--title", default="Transfer report", help="heading of the page")
    add("--images", type=int, default=4, help="test images whose detections are shown, of each table (%(default)s)")
    add("--min-score", type=float, help="least score of a detection shown there (default: that of each row's best F1)")
    add("--resamples", type=int, default=1000, help="resamples of the bootstrap; 0: no intervals (%(default)s)")
    add("--overwrite", action="store_true", help="replace the report that DIR holds")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    from transfer.report import content as report_content  # they import torch and Matplotlib, which takes seconds
    from transfer.report import page

    options = report_content.Options(arguments.title, arguments.images, arguments.min_score, arguments.resamples)
    with naming_full_disk(arguments.output):
        content = page.write_report(arguments.runs, arguments.output, options, overwrite=arguments.overwrite)
    console = Console()
    for table in content["tables"]:
        console.print(_as_text(table))
        for note in table["notes"]:
            console.print(Text(note))
    for one in content["summary"]:
        console.print(Text(one["first"], style="bold"), Text(one["more"]))
    for curve in content["label_curves"]:
        for sentence in curve["sentences"]:
            console.print(Text(sentence))
    for warning in content["warnings"]:
        console.print(Text(f"warning: {warning}", style="yellow"))
    written = arguments.output / page.PAGE
    size = written.stat().st_size / 1e6
    mail = "to open or to mail" if size < _MOST_MAILED else "too large for most mail; fewer --images make it smaller"
    print(f"one file of {size:.1f} MB, {mail}:")
    print(written)


def _as_text(table: dict[str, Any]) -> Table:
    columns = table["shown"]
    text = Table(
        title=Text(f"{table['title']}, AP in points (0 to 100)"),
        title_justify="left",
        box=box.SIMPLE,
        collapse_padding=True,
        pad_edge=False,
    )
    text.add_column("initialization")
    for heading in ("n", *(column["title"] for column in columns)):
        text.add_column(Text(heading), justify="right")
    for row in table["rows"]:
        cells = [_cell(row["scores"].get(column["key"])) for column in columns]
        text.add_row(Text(row["label"]), str(row["n"]), *cells)
    for row in table["differences"]:
        deltas = [row["scores"].get(column["key"]) for column in columns]
        text.add_row(Text(row["label"]), "", *("-" if delta is None else signed(delta) for delta in deltas))
    return text


def _cell(score: dict[str, Any] | None) -> str:
    if score is None:
        return "-"
    return f"{score['mean']:.1f}" + (f"±{score['std']:.1f}" if score["std"] is not None else "")


if __name__ == "__main__":
    cli.run(main)
