"""The account that tools/convert.py gives of a conversion on the terminal."""

import argparse

from rich.console import Console
from rich.table import Table

from transfer.conversion import summary
from transfer.conversion.convert import Conversion
from transfer.weights.source import KINDS


def show_conversion(conversion: Conversion, arguments: argparse.Namespace) -> None:
    """Print what was recognised, renamed, dropped and filled, with counts, and the result of the check."""
    source, console = conversion.source, Console(highlight=False)
    epoch = "not stated" if source.epoch is None else source.epoch
    kind = KINDS[source.kind] + (", converted before" if source.metadata else "")
    console.print(f"{source.path}: {kind}, {conversion.arch}, epoch {epoch}", soft_wrap=True, markup=False)
    console.print(summary.label_line(conversion, arguments.label), soft_wrap=True, markup=False)
    if source.prefix:
        console.print(f"prefix {source.prefix}", soft_wrap=True, markup=False)
    table = Table("from", "to", "tensors", box=None)
    for origin, target, count in summary.count_groups(conversion, arguments.to, arguments.full_names):
        table.add_row(origin, target, str(count))
    console.print(table)
    console.print(
        f"{len(conversion.state)} tensors, as {conversion.arch} has. Features agree with the source's in "
        f"{conversion.check.engine} (greatest relative difference {conversion.check.difference:.1g}).\n"
        f"Wrote {arguments.output}",
        soft_wrap=True,
        markup=False,
    )
