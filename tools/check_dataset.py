"""Find the faults of annotations and results before training or evaluation does."""

import argparse
import sys

from common import cli

# isort: split
from checking.lines import fault_lines
from checking.subcommands import SUBCOMMANDS
from common.subcommand import add_subcommands, described
from pretrain.runtime.invocation.parser import Parser
from transfer.data.common import faults as data_rules
from transfer.data.common.detector_needs import MAX_SIZE
from transfer.data.common.faults import KINDS, Findings
from transfer.errors import TransferError

FOUND = 1  # exit code where there are faults, and the rules accept or mend them all
SHOWN = 10  # faults of a kind, unless all are asked for

_KINDS = "\n".join(f"  {name:<15} {'|'.join(kind.rules):<26} {kind.meaning}" for name, kind in KINDS.items())
NOTES = f"""\
kinds of fault, and the rules to choose from, the default first (--data-rule of finetune and evaluate takes the same):
{_KINDS}

exit code: 0 no fault, 1 faults that the rules accept or mend, 2 faults that are refused
"""


def main() -> None:
    """Check what the command line names, list the faults, end with the exit code."""
    arguments = _parser().parse_args()
    rules = {**arguments.kind_rules, **data_rules.parse_rules(arguments.rules)}
    findings = Findings(_rules(rules, arguments.masks))
    checked = arguments.check(arguments, findings)
    for line in fault_lines(findings.faults, None if arguments.all else SHOWN):
        print(line)
    refused = findings.refused()
    print(f"{checked}; {len(findings.faults)} faults, {len(refused)} of them refused", flush=True)
    if refused:
        choices = findings.advice()
        raise TransferError(f"{len(refused)} faults are refused" + (f" ({choices})" if choices else ""))
    if findings.faults:
        sys.exit(FOUND)


def _rules(rules: dict[str, str], masks: str | None) -> dict[str, str]:
    """Return the rules for a detector with these masks; None: with masks as polygons, if the data have any masks."""
    needed = data_rules.rules_for(rules, masks=masks != "no", polygons=masks in (None, "polygon"))
    return needed if masks else {**needed, "boxes_only": rules.get("boxes_only", "allow")}


def _parser() -> argparse.ArgumentParser:
    parser = Parser(description=f"{__doc__}\n\n{described(SUBCOMMANDS)}")
    common = argparse.ArgumentParser(add_help=False)
    common.set_defaults(kind_rules={})
    common.add_argument(
        "--rule", data_rules.FLAG, dest="rules", action="append", default=[], metavar="KIND=RULE",
        help="what to do about a kind of fault; may be repeated",
    )  # fmt: skip
    common.add_argument(
        "--headers-only", action="store_true", help="read the headers of the images, do not decode their pixels"
    )
    common.add_argument(
        "--max-size", type=int, default=MAX_SIZE, metavar="N",
        help=f"INPUT.MAX_SIZE_TRAIN and MAX_SIZE_TEST, for images too narrow (default {MAX_SIZE})",
    )  # fmt: skip
    common.add_argument("--all", action="store_true", help=f"list every fault, not {SHOWN} of a kind")
    add_subcommands(parser, SUBCOMMANDS, common, NOTES)
    return parser


if __name__ == "__main__":
    cli.run(main)
