"""Score existing predictions against ground truth."""

import argparse
import json
import logging

from common import cli

# isort: split
from rich.console import Console

from common.subcommand import add_subcommands, described
from pretrain.runtime.invocation.parser import Parser
from scoring.numbers import without_nan
from scoring.subcommands import SUBCOMMANDS
from transfer.data.common import faults

SCALE = "All values are fractions from 0 to 1; fine-tuning and the report print points, 0 to 100."
NOTES = f"""\
{SCALE}
Where there is nothing to measure (no small object, no object of a class) the table shows "-" and --json has null.

Annotations and results are checked first; tools/check_dataset.py lists the kinds of fault and their rules. Under
"data_faults" --json has the number of faults that each rule was applied to.
"""


def main() -> None:
    """Parse the command line, score, print."""
    arguments = _parser().parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")  # to standard error
    scores = arguments.score(arguments)
    for remark in scores["remarks"]:
        logging.warning("%s", remark)
    if arguments.json:
        print(json.dumps(without_nan(scores), allow_nan=False))
    else:
        arguments.show(scores, Console(highlight=False))
        print(SCALE)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(description=f"{__doc__}\n\n{described(SUBCOMMANDS)}")
    output = argparse.ArgumentParser(add_help=False)
    output.add_argument(
        "--json", action="store_true", help="print one JSON object with unrounded numbers, nothing else"
    )
    output.add_argument(
        faults.FLAG, dest="data_rules", action="append", default=[], metavar="KIND=RULE",
        help="what to do about a kind of fault in the data; may be repeated",
    )  # fmt: skip
    add_subcommands(parser, SUBCOMMANDS, output, NOTES)
    return parser


if __name__ == "__main__":
    cli.run(main)
