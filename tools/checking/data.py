"""The check of data that are named by path, of whichever layout they are."""

import argparse
import itertools
from collections.abc import Iterator, Mapping, Sequence

from common.subcommand import SubCommand
from pretrain.runtime.errors import listed
from pretrain.runtime.host import user_path
from transfer.data import catalog, own
from transfer.data.common.data_files import DataFiles
from transfer.data.common.faults import Findings
from transfer.data.common.shared_images import shared_files
from transfer.errors import TransferError

from .cityscapes import check_cityscapes_files
from .coco import check_coco_files
from .semantic import check_label_map_files
from .voc import check_voc_files

_LAYOUTS = {
    "coco": check_coco_files,
    "voc": check_voc_files,
    "cityscapes": check_cityscapes_files,
    "semantic": check_label_map_files,
}


def check_data(arguments: argparse.Namespace, findings: Findings) -> str:
    """Check data that are named by path, or by the names of a YAML file; return a summary of their contents."""
    known = own.read_data_file(arguments.data) if arguments.data else {}
    words = arguments.names or list(known)
    if not words:
        raise TransferError("no data are named: give paths, or a YAML file of data sets by --data")
    summaries, chosen = [], [_found(word, known) for word in words]
    for files in chosen:
        shown = ", ".join(f"{key} {value}" for key, value in files.described().items())
        print(f"{files.name}: {shown}")
        contents = _LAYOUTS[files.format](files, arguments, findings)
        summaries.append(f"{files.name}: {contents}")
        findings.totals.clear()
    compared = [] if findings.refused() else _comparisons(chosen, own_pairs=not arguments.names)
    return "\n".join([*summaries[:-1], *compared, summaries[-1]])


def _comparisons(chosen: Sequence[DataFiles], own_pairs: bool) -> Iterator[str]:
    """Describe what keeps two data sets from being trained and tested on: images of both, classes of one alone.

    Args:
        own_pairs: compare the parts of a data set with each other, cells_train with cells_test, and not with others'.
    """
    read = [catalog.load_dataset([files.name], None, files={files.name: files}) for files in chosen]
    for (name, one), (other_name, other) in itertools.combinations(zip([f.name for f in chosen], read, strict=True), 2):
        if own_pairs and name.rpartition("_")[0] != other_name.rpartition("_")[0]:
            continue
        images, others = ([str(record["file_name"]) for record in dataset.records] for dataset in (one, other))
        if shared := shared_files(images, others):
            yield f"{name} and {other_name}: {len(shared)} images are in both: {listed(shared, 3)}"
        if alone := sorted(set(one.class_names) ^ set(other.class_names)):
            yield f"{name} and {other_name}: only one of them has these classes: {listed(alone, 10)}"


def _found(word: str, known: Mapping[str, DataFiles]) -> DataFiles:
    found = own.find_data(word, known)
    if found is None:
        raise TransferError(
            f"{word}: a built-in name; the sub-command of its kind, such as `coco`, checks those data, by their paths"
        )
    return found


def _add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", metavar="PATH_OR_NAME", help=own.PATH_HELP)
    parser.add_argument("--data", type=user_path, metavar="FILE.yaml", help=own.DATA_HELP)
    parser.add_argument(catalog.CLASSES_FLAG, metavar="CLASSES", help=catalog.CLASSES_HELP)
    parser.set_defaults(check=check_data, masks=None, no_images=False, results=None)


DATA = SubCommand(
    "data",
    "annotated data in any layout, as --train and --test of tools/finetune.py take them",
    ("check_dataset.py data cells/train cells/valid", "check_dataset.py data --data cells.yaml"),
    _add_flags,
)
