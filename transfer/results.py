"""The schema of result.json: the scores of one fine-tuning or evaluation run, its data and its initialization."""

import dataclasses
import hashlib
import json
import math
import os
import sys
import types
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from transfer.errors import TransferError

FILE_NAME = "result.json"
# Of a checkpoint that is scored on the way: its folder in the run's, and the file of its scores, no run's result.
EVALUATED, SCORES = "evaluated_", "scores.json"
SCHEMA = 1

# Settings that may differ between trials of one task: the initialization, the seed, where it runs and writes.
NOT_THE_TASK = ("SEED", "OUTPUT_DIR", "MODEL.WEIGHTS", "MODEL.DEVICE", "DATALOADER.NUM_WORKERS")

Points = dict[str, float | None]  # name of a metric -> AP points in [0, 100]; None where it is undefined


@dataclass(frozen=True)
class Scores:
    """The AP points: `metrics` by what was scored (bbox, segm, keypoints), `voc_metrics` by VOC metric.

    `per_class` has the AP of each class, by what was scored. `remarks`: what a reader of the numbers must know, such as
    classes of which the test set has no object. `replaced_images`: training images that could not be read, of which
    others took the place. `evaluator`: the program that computed them and its version, such as "hotcoco 1.3.0"; None
    where that is this project.
    """

    metrics: dict[str, Points]
    per_class: dict[str, Points]
    voc_metrics: dict[str, Points] = dataclasses.field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    replaced_images: int = 0
    evaluator: str | None = None


@dataclass(frozen=True)
class Engine:
    """The engine that trained and ran the detector, `torchvision` or `detectron2`, and the versions of its packages."""

    name: str
    versions: dict[str, str]


@dataclass(frozen=True)
class Labels:
    """The part of the training images whose labels a run learnt from (--labels of tools/finetune.py).

    `asked` is the option as given. `images` of the `of` images that show something to learn have labels, which is
    `fraction` of them; `objects` counts their objects without crowds. `seed` is that of the draw, None where a list
    was given or everything is labelled. `sha256` is that of labels.txt in the folder of the run.
    """

    asked: str
    fraction: float
    images: int
    of: int
    objects: int
    seed: int | None
    sha256: str


@dataclass(frozen=True)
class Task:
    """The data trained and tested on. `config_sha256` is `config_hash` of the resolved configuration.

    `kind` is the kind of data ("voc", "coco" or one that transfer.evaluation.kinds was given). `data_rules` are the
    rules given by --data-rule of tools/finetune.py; `data_faults` counts the faults of the `train` and `test` data by
    the rule that was applied: {"train": {"zero_area=keep": 2}, "test": {}}. `labels`: None where no part was asked for.
    `data` has the format and the absolute paths of each data set that was named by path:
    {"cells_train": {"format": "coco", "images": "/cells", ...}}. `test_sha256` tells test data of one name apart: it is
    the SHA-256 of their classes, image names, sizes and objects, None in results of older versions.
    """

    kind: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    config_file: str | None
    config_sha256: str
    class_names: tuple[str, ...]
    train_images: int
    test_images: int
    data_rules: dict[str, str] = dataclasses.field(default_factory=dict)
    data_faults: dict[str, dict[str, int]] = dataclasses.field(default_factory=dict)
    labels: Labels | None = None
    data: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)
    test_sha256: str | None = None


@dataclass(frozen=True)
class Init:
    """The initialization. `file`: a converted backbone; `weights`: a whole detector given as MODEL.WEIGHTS.

    `label` names the row of the report; `sha256` is that of the file at `path`; `metadata` is copied from that file.
    """

    kind: Literal["random", "supervised", "file", "weights"]
    label: str
    path: str | None = None
    sha256: str | None = None
    arch: str | None = None
    metadata: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class Device:
    """The device of a run: `kind` is cpu or cuda, `name` the processor's own name, `threads` those of one process."""

    kind: str
    name: str
    processes: int
    threads: int


@dataclass(frozen=True)
class Scaled:
    """A recipe written for `reference` GPUs, rescaled by the linear rule to `gpus` (tools/finetune.py --scale-to)."""

    reference: int
    gpus: int


@dataclass(frozen=True)
class Result:
    """A finished run; what its `Scores` have, from `metrics` to `evaluator`, is theirs.

    All AP are points in [0, 100]; a NaN is written as null and read as None. `seconds` is wall time by phase.
    """

    engine: Engine
    task: Task
    init: Init
    seed: int
    iterations: int
    eval_only: bool
    metrics: dict[str, Points]
    device: Device
    seconds: dict[str, float]
    command: tuple[str, ...]
    created: str
    voc_metrics: dict[str, Points] = dataclasses.field(default_factory=dict)
    per_class: dict[str, Points] = dataclasses.field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    replaced_images: int = 0
    git: str | None = None
    scaled: Scaled | None = None
    evaluator: str | None = None
    schema: int = SCHEMA


def ap_point(fraction: float) -> float | None:
    """Convert a fraction in [0, 1] to AP points in [0, 100]; NaN, an undefined AP, to None."""
    return None if math.isnan(fraction) else 100.0 * fraction


def ap_points(fractions: Mapping[str, Any]) -> Points:
    """Convert fractions in [0, 1] to AP points; entries that are not numbers (tables of classes) are left out."""
    return {name: ap_point(value) for name, value in fractions.items() if isinstance(value, (int, float))}


def config_hash(settings: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a resolved configuration (a CfgNode is one) without what may differ between trials."""
    return hashlib.sha256(json.dumps(task_settings(settings), sort_keys=True, default=str).encode()).hexdigest()


def task_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten a resolved configuration to full key -> value, without what may differ between trials of one task."""
    return {key: value for key, value in _flat(settings) if key not in NOT_THE_TASK}


def write_result(path: Path, result: Result, overwrite: bool = False) -> None:
    """Write `result` as JSON, whole or not at all.

    Raises:
        TransferError: `path` exists and `overwrite` is False, or a field could not be read back.
    """
    if path.exists() and not overwrite:
        raise TransferError(f"{path} exists: a result is never overwritten unasked. Choose another output folder.")
    text = json.dumps(_without_nan(dataclasses.asdict(result)), indent=2, allow_nan=False) + "\n"
    _parse(text, path)  # what could not be read back is not written
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_result(path: Path) -> Result:
    """Read result.json.

    Raises:
        TransferError: names the file and every field at fault.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TransferError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    return _parse(text, path)


def _parse(text: str, path: Path) -> Result:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise TransferError(f"{path}: is not JSON: {error}") from error
    if isinstance(value, dict) and value.get("schema", SCHEMA) != SCHEMA:
        raise TransferError(f"{path}: schema is {value['schema']!r}; this version reads schema {SCHEMA}")
    faults: list[str] = []
    result = _decode(Result, value, "", faults)
    if faults:
        raise TransferError(f"{path}: not a result this version can read:\n  " + "\n  ".join(faults))
    return result


def _decode(kind: Any, value: Any, where: str, faults: list[str]) -> Any:
    """Read a JSON value as the annotated type `kind`; faults go into the list, each with the field's dotted name."""
    origin, args = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if dataclasses.is_dataclass(kind):
        return _decode_record(kind, value, where, faults)
    if origin in (Union, types.UnionType):  # X | None is the only one used
        return None if value is None else _decode(args[0], value, where, faults)
    if origin is Literal:
        if value not in args:
            faults.append(f"{where}: is {value!r}, must be one of {', '.join(map(str, args))}")
        return value
    if origin is dict and isinstance(value, dict):
        return {key: _decode(args[1], item, f"{where}.{key}", faults) for key, item in value.items()}
    if origin is tuple and isinstance(value, list):
        return tuple(_decode(args[0], item, f"{where}[{i}]", faults) for i, item in enumerate(value))
    plain = origin or kind
    if _is_a(plain, value):
        return float(value) if plain is float else value
    faults.append(f"{where}: is {value!r}, must be {_JSON_NAMES[plain]}")
    return value


def _decode_record(kind: Any, value: Any, where: str, faults: list[str]) -> Any:
    if not isinstance(value, dict):
        faults.append(f"{where or 'the file'}: is {value!r}, must be an object")
        return value
    prefix = f"{where}." if where else ""
    hints = get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    faults += [f"{prefix}{name}: unknown field" for name in value if name not in fields]
    missing = [
        name
        for name, field in fields.items()
        if name not in value and field.default is field.default_factory is dataclasses.MISSING
    ]
    faults += [f"{prefix}{name}: missing" for name in missing]
    known = {name: _decode(hints[name], value[name], f"{prefix}{name}", faults) for name in fields if name in value}
    return None if missing else kind(**known)


_JSON_NAMES = {
    str: "a string",
    int: "a whole number",
    float: "a finite number",
    bool: "true or false",
    dict: "an object",
    tuple: "a list",
}


def _is_a(kind: type, value: Any) -> bool:
    if isinstance(value, bool):
        return kind is bool
    if kind is float:
        return isinstance(value, (int, float)) and abs(value) <= sys.float_info.max  # false for NaN
    return kind in (str, int) and isinstance(value, kind)


def _flat(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for key, value in settings.items():
        if isinstance(value, Mapping):
            pairs += _flat(value, f"{prefix}{key}.")
        else:
            pairs.append((f"{prefix}{key}", value))
    return pairs


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
