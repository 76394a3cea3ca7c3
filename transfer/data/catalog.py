"""The kinds of annotated data, and data sets of them by name.

A new kind is a file with its `DataKind` and a line in `_KINDS`; `register_kind` adds one from outside the project.
What scores a kind is listed in transfer.evaluation.kinds.
"""

import difflib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from transfer.data.cityscapes.dataset import CITYSCAPES
from transfer.data.coco.dataset import COCO
from transfer.data.common.data_files import DataFiles
from transfer.data.common.dataset import DataKind, Dataset
from transfer.data.common.faults import Rules
from transfer.data.densepose.dataset import DENSEPOSE
from transfer.data.lvis.dataset import LVIS
from transfer.data.semantic.cityscapes import CITYSCAPES_LABEL_MAPS
from transfer.data.semantic.folder import LABEL_MAPS
from transfer.data.semantic.voc import VOC_LABEL_MAPS
from transfer.data.voc.dataset import VOC
from transfer.errors import TransferError, refuse

CLASSES_FLAG = "--classes"  # of every tool that reads annotations
CLASSES_HELP = (
    "the classes, in the order of their index: voc (PASCAL VOC's 20), NAME,NAME,..., a text file with one a line, or "
    "a number of classes without names (default: those found in the data)"
)

_KINDS = {
    kind.name: kind
    for kind in (VOC, COCO, CITYSCAPES, LVIS, DENSEPOSE, VOC_LABEL_MAPS, CITYSCAPES_LABEL_MAPS, LABEL_MAPS)
}


def register_kind(kind: DataKind) -> None:
    """Add a kind of data to the catalog.

    Raises:
        ValueError: another kind has this name, or one of its data sets does.
    """
    others = [other for other in _KINDS.values() if other != kind]
    names = {kind.name, *kind.dataset_names}
    taken = sorted(names & {name for other in others for name in (other.name, *other.dataset_names)})
    if taken:
        raise ValueError(f"data kind {kind.name!r}: registered already by another kind: {', '.join(taken)}")
    _KINDS[kind.name] = kind


def kind_named(name: str) -> DataKind:
    """Return the kind of data called `name`, as in result.json's task.kind.

    Raises:
        TransferError: no kind has this name; the message lists those there are.
    """
    if name not in _KINDS:
        raise TransferError(f"no kind of data is named {name!r}; known: {', '.join(_KINDS)}")
    return _KINDS[name]


def formats() -> tuple[str, ...]:
    """Return the kinds of data that are named by path, as `format` of a YAML file names them."""
    return tuple(name for name, kind in _KINDS.items() if kind.load_files)


def dataset_names() -> tuple[str, ...]:
    """Return the names that `load_dataset` understands."""
    return tuple(name for kind in _KINDS.values() for name in kind.dataset_names)


def standard_class_names(count: int, label_maps: bool = False) -> tuple[str, ...]:
    """Return the names of `count` classes: those of the first kind that has as many, else "class 0", "class 1", ...

    Args:
        label_maps: look among the kinds of data with label maps, not among those with objects.
    """
    kinds = [kind for kind in _KINDS.values() if kind.has_label_maps == label_maps]
    named = (kind.class_names for kind in kinds if count and len(kind.class_names) == count)
    return next(named, tuple(f"class {index}" for index in range(count)))


def parse_class_names(text: str) -> tuple[str, ...]:
    """Return the classes that `--classes` names, in the order of their index.

    Args:
        text: the name of a kind of data that has standard classes ("voc", "coco"); a number of classes without names,
            as label maps have; names separated by commas; or the path of a text file with one name a line.

    Raises:
        TransferError: no such file, no name, an empty name or one that is given twice.
    """
    if text.isdecimal() and int(text) > 0:
        return tuple(f"class {index}" for index in range(int(text)))
    kind = _KINDS.get(text)
    if kind is not None and kind.class_names:
        return kind.class_names
    path = Path(text).expanduser()
    if path.is_file():
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, ValueError) as error:
            raise TransferError(f"{CLASSES_FLAG} {text}: not readable as one class a line ({error})") from error
        names = [line.strip() for line in lines if line.strip()]
    elif "," not in text and (len(path.parts) > 1 or path.suffix):
        standard = ", ".join(kind.name for kind in _KINDS.values() if kind.class_names)
        raise TransferError(
            f"{CLASSES_FLAG} {text}: no such file; expected: one of {standard}; NAME,NAME,...; or a text file"
        )
    else:
        names = [name.strip() for name in text.split(",")]
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if not names or "" in names or twice:
        what = f"given twice: {', '.join(twice)}" if twice and twice != [""] else "a class has no name"
        raise TransferError(f"{CLASSES_FLAG} {text}: {what}")
    return tuple(names)


def load_dataset(
    names: Sequence[str],
    root: Path | None,
    class_names: Sequence[str] | None = None,
    rules: Rules | None = None,
    files: Mapping[str, DataFiles] | None = None,
) -> Dataset:
    """Read the data sets `names` and join them. Image files are looked for, not opened.

    Args:
        names: Detectron2's built-in names, or those of a registered kind; all of one kind.
        root: the folder that holds VOC2007/ and VOC2012/ (or VOCdevkit/ with them), or annotations/, train2017/, ...
            (or coco/ with them). None: $DETECTRON2_DATASETS, else ./datasets.
        class_names: the classes there may be, of class 0, 1, ...: those that a model was trained on, or that a user
            names. None: taken from the data, as the kind's loader says.
        rules: for kinds of fault whose default is not wanted (transfer.data.common.faults).
        files: the files of those names that are not built in.

    Raises:
        TransferError: lists what is missing or malformed (each with its path), or classes that are not among these.
    """
    own = {name: files[name] for name in names if name in files} if files else {}
    if own and len(own) == len(names):
        return _load_files(tuple(own.values()), class_names, rules or {})
    if own:
        built_in = ", ".join(name for name in names if name not in own)
        raise TransferError(f"{', '.join(own)}, {built_in}: data by path do not join data with a built-in name")
    kinds = {name: kind for kind in _KINDS.values() for name in kind.dataset_names}
    unknown = [name for name in names if name not in kinds]
    refuse(
        [
            f"no data set is named {name!r}{_near(name)}; known: {', '.join(kinds)}, and those of --data FILE.yaml; "
            "--train and --test take paths"
            for name in unknown
        ]
    )
    if not names:
        raise TransferError(f"no data set is named in DATASETS; known: {', '.join(kinds)}")
    kind = kinds[names[0]]
    if others := {kinds[name].name.upper() for name in names} - {kind.name.upper()}:
        titles = " and ".join([kind.name.upper(), *sorted(others)])
        raise TransferError(f"{', '.join(names)}: {titles} data do not join, their classes differ")
    folder = root or Path(os.environ.get("DETECTRON2_DATASETS", "datasets")).expanduser()
    if not folder.is_dir():
        raise TransferError(
            f"{folder}: no such folder; --dataset-root (or $DETECTRON2_DATASETS) names the folder of the data sets"
        )
    return kind.load(tuple(names), folder, class_names, rules or {})


def layout_fault(names: Sequence[str], root: Path) -> str | None:
    """Return why a folder cannot hold the data sets `names`, as `load_dataset` would say; None where it may."""
    kinds = {name: kind for kind in _KINDS.values() for name in kind.dataset_names}
    try:
        for name in names:
            if name in kinds and (find := kinds[name].find):
                find((name,), root)
    except TransferError as error:
        return str(error)
    return None


def _load_files(files: tuple[DataFiles, ...], class_names: Sequence[str] | None, rules: Rules) -> Dataset:
    """Read data that are named by path, and join them."""
    titles = sorted({part.format.upper() for part in files})
    if len(titles) > 1:
        names = ", ".join(part.name for part in files)
        raise TransferError(f"{names}: {' and '.join(titles)} data do not join, their classes differ")
    kind = kind_named(files[0].format)
    if kind.load_files is None:
        raise TransferError(f"{files[0].name}: data of the kind {kind.name} are not named by path")
    return kind.load_files(files, class_names, rules)


def _near(name: str) -> str:
    close = difflib.get_close_matches(name, dataset_names(), n=2)
    return f" (near: {', '.join(close)})" if close else ""
