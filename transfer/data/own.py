"""The data of a run as a user names them: by path, by a name of a YAML file of data sets, or by a built-in name.

A YAML file of data sets, for --data; relative paths start at the folder of the file:

    my_cells:                                   # gives my_cells_train and my_cells_test
      train: export/train                       # a path as --train takes it,
      test: {images: photos, annotations: test.json}    # or the files one by one
    my_nuclei: {format: voc, images: photos, annotations: xml, train: train.txt, test: test.txt}
"""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from pretrain.runtime import files as yaml_files
from pretrain.runtime.errors import listed
from pretrain.runtime.host import expand_home, user_path
from transfer.data import catalog, layouts
from transfer.data.common.data_files import DataFiles
from transfer.errors import TransferError, refuse

DATA_HELP = "a YAML file of data sets by path, whose names DATASETS.TRAIN and DATASETS.TEST may have (docs: data.md)"
PATH_HELP = "a file or folder of annotated data, or the name of a data set"

PARTS = ("train", "val", "test")  # a data set in a YAML file may have them
_FILES = ("images", "annotations", "list")
_KEYS = ("format", *_FILES, *PARTS)
_NAME = re.compile(r"\w[\w.-]*")


@dataclass(frozen=True)
class ChosenData:
    """The names to train and to test on, and the files of those that are not built in."""

    train: tuple[str, ...]
    test: tuple[str, ...]
    files: dict[str, DataFiles] = field(default_factory=dict)


def choose_data(
    data: Path | None,
    train: Sequence[str],
    test: Sequence[str],
    configured_train: tuple[str, ...],
    configured_test: tuple[str, ...],
) -> ChosenData:
    """Return the data of a run.

    Args:
        data: a YAML file of data sets.
        train, test: paths and names, over those of the configuration.
        configured_train, configured_test: DATASETS.TRAIN and DATASETS.TEST. Where neither they nor `train` and `test`
            have a name of the YAML file, and it has one data set, its parts train and test are taken (val where it has
            no test).

    Raises:
        TransferError: lists every fault of the YAML file, or every fault of the paths and names.
    """
    known = read_data_file(data) if data else {}
    faults: list[str] = []
    if known and not train and not test and not {*configured_train, *configured_test} & set(known):
        train, test = _only_set(data, known)
    named: dict[str, DataFiles] = dict(known)
    parts: dict[str, tuple[str, ...]] = {}
    for flag, words in (("--train", train), ("--test", test)):
        names = []
        for word in words:
            try:
                part = find_data(word, known)
            except TransferError as error:
                faults += [f"{flag} {line.strip()}" for line in str(error).splitlines()]
                continue
            names.append(word if part is None else part.name)
            if part is not None and named.setdefault(part.name, part) != part:
                other = named[part.name]
                faults.append(
                    f"{flag} {word}: its name would be {part.name}, as that of {_place(other)}; a YAML file for "
                    "--data gives other names"
                )
        parts[flag] = tuple(names)
    refuse(faults)
    chosen = ChosenData(parts["--train"] or configured_train, parts["--test"] or configured_test)
    used = {name: named[name] for name in (*chosen.train, *chosen.test) if name in named}
    refuse(list(_same_files(chosen, used)))
    return replace(chosen, files=used)


def find_data(word: str, known: Mapping[str, DataFiles]) -> DataFiles | None:
    """Return the data that a user's word names: a name of `known` or a path; None for a built-in name.

    Raises:
        TransferError: it is none of these, or a path that is not read.
    """
    if word in known:
        return known[word]
    path = user_path(word)
    if not path.exists():
        if word in catalog.dataset_names():
            return None
        names = [*known, *catalog.dataset_names()]
        near = difflib.get_close_matches(word, names, n=2)
        guess = f" (near: {', '.join(near)})" if near else ""
        raise TransferError(f"{word}: no such file or folder, and no data set has this name{guess}")
    found = layouts.recognise(path)
    if found.name in catalog.dataset_names():
        raise TransferError(f"{word}: {found.name} is a built-in name; a YAML file for --data gives another")
    return found


def read_data_file(path: Path) -> dict[str, DataFiles]:
    """Read a YAML file of data sets: name -> files, "NAME_PART" for those that have parts.

    Raises:
        TransferError: lists every fault of the file.
    """
    if path.is_dir() or path.suffix.lower() == ".json":
        raise TransferError(
            f"--data {path}: a YAML file of data sets is expected; --train and --test take data by path"
        )
    try:
        content = yaml_files.load_yaml(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise TransferError(f"--data {path}: not readable as YAML: {error}") from error
    if not isinstance(content, Mapping) or not content:
        raise TransferError(f"--data {path}: NAME: {{train: PATH, test: PATH}} is expected for each data set")
    if "names" in content and isinstance(content.get("train"), str):
        raise TransferError(
            f"--data {path}: a YOLO data set's file; python tools/convert_dataset.py {path.parent} --output FOLDER "
            "converts its labels into COCO's layout"
        )
    reader = _Reader(path.parent)
    for name, entry in content.items():
        reader.read(str(name), entry)
    refuse([f"--data {path}: {fault}" for fault in reader.faults])
    return reader.found


class _Reader:
    """A reader that gathers the data sets of a YAML file and every fault on the way."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.found: dict[str, DataFiles] = {}
        self.faults: list[str] = []

    def read(self, name: str, entry: Any) -> None:
        if not _NAME.fullmatch(name):
            self.faults.append(f"{name!r}: a name is made of letters, digits, _, . and -")
        shared = entry if isinstance(entry, Mapping) else {}
        if unknown := [str(key) for key in shared if key not in _KEYS]:
            self.faults.append(f"{name}: no such key: {', '.join(unknown)}; there are {', '.join(_KEYS)}")
        parts = {f"{name}_{part}": shared[part] for part in PARTS if shared.get(part) is not None}
        common = {key: shared[key] for key in ("format", *_FILES) if shared.get(key) is not None}
        for full_name, part in (parts or {name: common if shared else entry}).items():
            self._add(full_name, part, common if parts else {})

    def _add(self, name: str, part: Any, common: Mapping[str, Any]) -> None:
        if name in catalog.dataset_names():
            self.faults.append(f"{name}: is a built-in name, take another")
        elif name in self.found:
            self.faults.append(f"{name}: two data sets have this name")
        elif isinstance(part, str) and not common.keys() & set(_FILES):
            self._recognised(name, part, common.get("format"))
        elif isinstance(part, str):
            # Beside the images or XML files of all parts, a part is its annotation file or its list.
            key = "annotations" if part.lower().endswith(".json") else "list"
            self._listed(name, {**common, key: part})
        elif isinstance(part, Mapping):
            if unknown := [str(key) for key in part if key not in ("format", *_FILES)]:
                allowed = ", ".join(("format", *_FILES))
                self.faults.append(f"{name}: no such key: {', '.join(unknown)}; there are {allowed}")
            self._listed(name, {**common, **{key: part[key] for key in part if key in ("format", *_FILES)}})
        else:
            self.faults.append(f"{name}: a path or {{images: FOLDER, annotations: FILE_OR_FOLDER}} is expected")

    def _recognised(self, name: str, text: str, stated: Any) -> None:
        try:
            found = layouts.recognise(self.folder / expand_home(text))
        except TransferError as error:
            self.faults += [f"{name}: {line.strip()}" for line in str(error).splitlines()]
            return
        self._keep(replace(found, name=name), stated)

    def _listed(self, name: str, given: Mapping[str, Any]) -> None:
        """Add data whose files are given one by one; without `images`, these are looked for near the annotations."""
        texts = {key: given[key] for key in _FILES if key in given}
        wrong = [
            f"{name}: {key} is {value!r}, a path is expected" for key, value in texts.items() if not _is_text(value)
        ]
        if wrong or "annotations" not in texts:
            self.faults += wrong or [
                f"{name}: annotations is missing: a COCO .json, or the folder of VOC's XML files, of label maps, or of "
                "Cityscapes' polygons"
            ]
            return
        paths = {key: self.folder / expand_home(text) for key, text in texts.items()}
        if missing := [
            f"{name}: {key} {path}: no such file or folder" for key, path in paths.items() if not path.exists()
        ]:
            self.faults += missing
            return
        annotations, images, image_list = paths["annotations"], paths.get("images"), paths.get("list")
        format_ = "coco" if annotations.is_file() else layouts.format_of_folder(annotations)
        try:
            images = images or layouts.find_image_folder(annotations)
        except TransferError as error:
            self.faults.append(f"{name}: {error}")
            return
        if format_ == "coco" and image_list:
            self.faults.append(f"{name}: list belongs to VOC's layout; a COCO file lists its images itself")
        if format_ == "cityscapes" and image_list:
            self.faults.append(f"{name}: list belongs to VOC's layout; a split of Cityscapes is all images of a folder")
        if not images.is_dir():
            self.faults.append(f"{name}: images {images}: a folder is expected")
        if image_list and not image_list.is_file():
            self.faults.append(f"{name}: list {image_list}: a text file with an image's name on each line is expected")
        self._keep(DataFiles(name, format_, images, annotations, image_list), given.get("format"))

    def _keep(self, files: DataFiles, stated: Any) -> None:
        if stated not in (None, files.format):
            self.faults.append(
                f"{files.name}: format {stated}, but {files.annotations} is in {files.format.upper()} layout"
                if stated in catalog.formats()
                else f"{files.name}: format {stated} is not read; {listed(catalog.formats(), 9)} are"
            )
        self.found[files.name] = files


def _only_set(data: Path | None, known: Mapping[str, DataFiles]) -> tuple[list[str], list[str]]:
    """Return the parts train and test of the only data set of a file, or the data set itself."""
    train = [name for name in known if name.endswith("_train")]
    test = [name for name in known if name.endswith("_test")] or [name for name in known if name.endswith("_val")]
    if len(train) != 1 or len(test) != 1:
        raise TransferError(
            f"--data {data}: it does not say alone what to train and what to test on; name them by --train NAME and "
            f"--test NAME, or in DATASETS: {listed(known, 10)}"
        )
    return train, test


def _same_files(chosen: ChosenData, files: Mapping[str, DataFiles]) -> Iterator[str]:
    """Describe each data set to test on whose files are also trained on."""
    trained = {replace(files[name], name=""): name for name in chosen.train if name in files}
    for name in chosen.test:
        other = trained.get(replace(files[name], name="")) if name in files else None
        if other is not None:
            yield (
                f"{name}: these are the images trained on ({_place(files[name])}), and a test on them does not tell "
                "how the detector does on new ones; name another part of the data by --test"
            )


def _place(part: DataFiles) -> Path:
    return part.image_list or part.annotations


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())
