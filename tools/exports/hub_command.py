"""The part of tools/convert.py that writes a folder for the Hugging Face Hub."""

import argparse
import shlex

from rich.console import Console

from transfer.conversion.convert import Conversion
from transfer.errors import TransferError
from transfer.weights.backbone_forms import HUB

from . import hub_folder
from .hub_results import read_score_tables


def check_options(arguments: argparse.Namespace) -> None:
    """Raise TransferError for an output that exists, or for options that do not go with --to."""
    if arguments.to != HUB:
        for flag, value in (("--license", arguments.license), ("--results", arguments.results)):
            if value is not None:
                raise TransferError(f"{flag}: goes into the model card of --to hub, leave it out")
        return
    if arguments.full_names:
        raise TransferError(f"--full-names {arguments.full_names}: only with --to detectron2")
    if arguments.overwrite and arguments.output.exists():
        raise TransferError(
            f"--overwrite: replaces files, and {arguments.output} is a folder: remove it, or name another"
        )
    hub_folder.check_hub_folder(arguments.output, _license(arguments))


def write(conversion: Conversion, arguments: argparse.Namespace) -> None:
    """Write the folder, with the scores that --results names on its card."""
    tables = read_score_tables(arguments.results or [], conversion.metadata)
    hub_folder.write_hub_folder(conversion, arguments.output, _license(arguments), tables)


def show_next_step(arguments: argparse.Namespace) -> None:
    """Print what is left to do before others load the folder."""
    console = Console(highlight=False)
    if arguments.license is None:
        said = "warning: the license is unknown, and the card says so: name it with --license before you upload"
        console.print(said, soft_wrap=True)
    upload = f"hf upload YOUR_NAME/{arguments.output.name} {shlex.quote(str(arguments.output))}"
    said = f"next: read {arguments.output / hub_folder.CARD}, then: {upload}"
    console.print(said, soft_wrap=True, markup=False)


def _license(arguments: argparse.Namespace) -> str:
    return arguments.license or hub_folder.UNKNOWN
