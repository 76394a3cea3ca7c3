"""The record of a run's data, image by image, kept in its folder, and how later data differ from it."""

import hashlib
import json
from array import array
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pretrain.runtime import files
from transfer.data.common.dataset import Dataset
from transfer.data.common.faults import KINDS
from transfer.data.labels import FLAG as LABELS_FLAG
from transfer.data.labels import describe_labels
from transfer.results import Labels

FILE_NAME = "data.json"


@dataclass(frozen=True)
class DataRecord:
    """The content of a data set as a run uses it. The folder that it lies in is no part of it.

    Args:
        class_names: of class 0, 1, ...
        rules: --data-rule, by kind.
        images: (file name, digest of its id, size and objects) of each image in order.
        files: name -> SHA-256 of each annotation file that the evaluator reads itself.
        labels: the part of the training images that --labels asked for; None: all.
    """

    class_names: tuple[str, ...]
    rules: dict[str, str]
    images: tuple[tuple[str, str], ...]
    files: dict[str, str]
    labels: Labels | None = None

    @classmethod
    def of(cls, dataset: Dataset, evaluated: bool, labels: Labels | None = None) -> "DataRecord":
        """Return the record of a data set; `evaluated`: its annotation files are read by an evaluator."""
        paths = [Path(part) for part in dataset.annotations if isinstance(part, str | Path)] if evaluated else []
        return cls(
            dataset.class_names,
            dict(dataset.rules),
            tuple((Path(record["file_name"]).name, _digest(record)) for record in dataset.records),
            {path.name: files.file_sha256(path) for path in paths},
            labels,
        )

    def sha256(self) -> str:
        """Return the SHA-256 of the classes and of every image with its objects."""
        content = [list(self.class_names), [list(image) for image in self.images]]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


Records = Mapping[str, DataRecord]  # "train", "test" -> the data of that part


def write_records(output: Path, records: Records) -> None:
    """Write `output`/data.json."""
    content = {part: asdict(record) for part, record in records.items()}
    files.save_text(output / FILE_NAME, json.dumps(content) + "\n")


def read_records(output: Path) -> Records | None:
    """Read `output`/data.json; None where it is not there or not readable, as of a run of an older version."""
    try:
        content = json.loads((output / FILE_NAME).read_text())
        return {part: _from_json(record) for part, record in content.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def data_differences(begun: Records, now: Records) -> list[str]:
    """Describe how the data of a run have changed since it began, in a line for each kind of change.

    Parts that only one of the two has (an evaluation has no training data) are not compared.
    """
    return [line for part in now if part in begun for line in _differences(part, begun[part], now[part])]


def _differences(part: str, begun: DataRecord, now: DataRecord) -> list[str]:
    lines = [
        f"--data-rule {kind}: begun with {begun.rules.get(kind, default)}, now {now.rules.get(kind, default)}"
        for kind, default in ((kind, KINDS[kind].rules[0]) for kind in KINDS)
        if part == "test" and begun.rules.get(kind, default) != now.rules.get(kind, default)  # the same for all data
    ]
    data = {"train": "the training data", "test": "the test data"}[part]
    if begun.class_names != now.class_names:
        lines.append(
            f"the classes of {data}: begun with {', '.join(begun.class_names)}, now {', '.join(now.class_names)}"
        )
    elif _list_of(begun) != _list_of(now):
        lines.append(f"{LABELS_FLAG}: begun with {_describe(begun.labels)}, now {_describe(now.labels)}")
    elif begun.images != now.images:
        counts = f"{len(begun.images)} images, now {len(now.images)}"
        lines.append(f"{data} changed: {counts}; first difference: {_first_difference(begun, now)}")
    elif changed := sorted(name for name in now.files if begun.files.get(name) != now.files[name]):
        lines.append(f"{data} changed: another content of {', '.join(changed)}, which the evaluation reads")
    return lines


def _list_of(record: DataRecord) -> str | None:
    """Return the SHA-256 of the list of labelled images; of all images there is none."""
    return None if record.labels is None or record.labels.fraction == 1 else record.labels.sha256


def _describe(labels: Labels | None) -> str:
    return "all images" if labels is None else describe_labels(labels)


def _first_difference(begun: DataRecord, now: DataRecord) -> str:
    names_begun, names_now = ({name for name, _ in record.images} for record in (begun, now))
    for (name, digest), (name_now, digest_now) in zip(begun.images, now.images, strict=False):
        if name == name_now and digest != digest_now:
            return f"{name} has another id, size or other objects"
        if name != name_now:
            break
    else:
        shared = min(len(begun.images), len(now.images))
        longer = begun if len(begun.images) > shared else now
        name = name_now = longer.images[shared][0]
    if name not in names_now:
        return f"{name} is not among them any more"
    if name_now not in names_begun:
        return f"{name_now} is new"
    return f"{name_now} is at another place in the order"


def _from_json(content: Any) -> DataRecord:
    images = tuple((name, digest) for name, digest in content["images"])
    labels = content.get("labels")
    return DataRecord(
        tuple(content["class_names"]),
        dict(content["rules"]),
        images,
        dict(content["files"]),
        None if labels is None else Labels(**labels),
    )


def _digest(record: Mapping[str, Any]) -> str:
    """Return 16 hex digits of the SHA-256 of a record without the paths of its files."""
    digest = hashlib.sha256()
    _add(digest, {key: value for key, value in record.items() if not key.endswith("file_name")})
    return digest.hexdigest()[:16]


def _add(digest: Any, value: Any) -> None:
    """Add a value to a digest, unambiguously; numbers of a list count by their value, 1 as 1.0."""
    if isinstance(value, Mapping):
        digest.update(b"{%d" % len(value))
        for key in sorted(value):
            digest.update(f"{key}:".encode())
            _add(digest, value[key])
    elif isinstance(value, list | tuple):
        digest.update(b"[%d" % len(value))
        try:
            digest.update(array("d", value).tobytes())  # coordinates, most of COCO's bytes
        except TypeError:
            for item in value:
                _add(digest, item)
    else:
        digest.update(f"{value!r};".encode())
