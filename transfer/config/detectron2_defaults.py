"""The configuration vocabulary of Detectron2, without Detectron2: defaults, YAML with _BASE_, KEY VALUE pairs."""

import ast
import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from fvcore.common.config import CfgNode

from pretrain.runtime import files
from pretrain.runtime.host import expand_home
from transfer.errors import TransferError

VERSION = 2  # of the vocabulary; version 1 is that of 2019
PATHS = ("OUTPUT_DIR", "MODEL.WEIGHTS")  # settings that name a file or a folder
_DEFAULTS = Path(__file__).with_name("detectron2_defaults.yaml")
_DENSEPOSE_DEFAULTS = Path(__file__).with_name("densepose_defaults.yaml")
_DENSEPOSE_KEYS = ("MODEL.DENSEPOSE_ON", "MODEL.ROI_DENSEPOSE_HEAD")
_NULLABLE = {"SOLVER.WEIGHT_DECAY_BIAS": float}  # the one key whose default, null, does not show its type


def get_cfg() -> CfgNode:
    """Return a fresh configuration with every setting at Detectron2's default (sequences are lists)."""
    return CfgNode(yaml.safe_load(_DEFAULTS.read_text()))


def merge(cfg: CfgNode, config_file: Path | None, overrides: Sequence[str]) -> None:
    """Set the values of a YAML file (with _BASE_) and of KEY VALUE pairs in `cfg`, by Detectron2's rules.

    A value must have the type of the one it replaces; lists and tuples stand for each other, and an int for a float.
    In a path, a leading `~` becomes the home folder.

    Args:
        cfg: the configuration to change, complete with every known key.
        config_file: YAML of Detectron2's vocabulary, or None.
        overrides: KEY VALUE KEY VALUE ..., keys with dots; a value is read as a Python literal, else as a string.

    Raises:
        TransferError: a file that is missing, not YAML or asks for unsafe YAML; or unknown keys (with their nearest
            neighbours) and values of a wrong type, all of them in one message.
    """
    faults: list[str] = []
    content = {} if config_file is None else read_yaml(config_file)
    if _names_densepose(content, overrides):
        _add_densepose(cfg)
    if config_file is not None:
        version = content.pop("VERSION", VERSION)
        if version != VERSION:
            raise TransferError(f"{config_file}: VERSION {version!r}: only version {VERSION} of the vocabulary is read")
        for key, value in _leaves(content):
            faults += [f"{config_file}: {fault}" for fault in _set(cfg, key, value)]
    if len(overrides) % 2:
        faults.append(f"command line: KEY VALUE pairs are expected, {overrides[-1]!r} is left without a partner")
    for key, value in zip(overrides[0::2], overrides[1::2], strict=False):
        faults += [f"command line: {fault}" for fault in _set(cfg, key, value)]
    if faults:
        raise TransferError("\n".join(faults))
    for key in PATHS:
        section, _, name = key.rpartition(".")
        node = value_of(cfg, section) if section else cfg
        node[name] = expand_home(node[name])


def _names_densepose(content: Mapping[str, Any], overrides: Sequence[str]) -> bool:
    """Return True if a setting of DensePose is given, in a YAML file or on the command line."""
    model = content.get("MODEL")
    given = [f"MODEL.{key}" for key in model] if isinstance(model, dict) else []
    return any(str(key).startswith(_DENSEPOSE_KEYS) for key in (*given, *overrides[0::2]))


def _add_densepose(cfg: CfgNode) -> None:
    """Add the settings of Detectron2's project DensePose, which its other configurations do not have."""
    for section, settings in yaml.safe_load(_DENSEPOSE_DEFAULTS.read_text()).items():
        for key, value in settings.items():
            cfg[section][key] = type(cfg)(value) if isinstance(value, dict) else value


def read_yaml(path: Path, _children: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Read a YAML file over its _BASE_ (a path relative to the file, or a list of them).

    Raises:
        TransferError: a file that cannot be read, is not plain YAML, or is its own _BASE_.
    """
    if path.resolve() in _children:
        raise TransferError(f"{path}: _BASE_ leads back to the file itself")
    try:
        content = files.load_yaml(path.read_text())
    except OSError as error:
        raise TransferError(f"{path}: cannot be read ({error.strerror or error})") from error
    except yaml.constructor.ConstructorError as error:
        raise TransferError(
            f"{path}: not plain YAML (tags that run code, such as !!python, are refused): {error}"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise TransferError(f"{path}: not plain YAML: {' '.join(str(error).split())}") from error
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise TransferError(f"{path}: settings such as 'MODEL: ...' are expected, found {type(content).__name__}")
    bases = content.pop("_BASE_", [])
    merged: dict[str, Any] = {}
    for base in [bases] if isinstance(bases, str) else bases:
        base_path = path.parent / Path(base).expanduser()
        _overlay(merged, read_yaml(base_path, (*_children, path.resolve())))
    _overlay(merged, content)
    return merged


def keys(cfg: Mapping[str, Any]) -> list[str]:
    """Return every setting's full name ("SOLVER.BASE_LR")."""
    return [key for key, _ in _leaves(cfg)]


def value_of(cfg: Mapping[str, Any], key: str) -> Any:
    """Return the value of a setting by its full name."""
    node: Any = cfg
    for part in key.split("."):
        node = node[part]
    return node


def _overlay(below: dict[str, Any], above: Mapping[str, Any]) -> None:
    for key, value in above.items():
        if isinstance(value, dict) and isinstance(below.get(key), dict):
            _overlay(below[key], value)
        else:
            below[key] = value


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _set(cfg: CfgNode, key: str, value: Any) -> list[str]:
    """Set one value. Returns its faults."""
    parts = str(key).split(".")
    node = cfg
    for part in parts[:-1]:
        node = node.get(part) if isinstance(node, dict) else None
    if not isinstance(node, dict) or parts[-1] not in node:
        return [f"unknown key {key}{_nearest(cfg, str(key))}"]
    present = node[parts[-1]]
    if isinstance(present, dict):
        return [f"{key}: a section of settings, found the value {value!r}"]
    value = _literal(value)
    wanted = _NULLABLE.get(key, type(present))
    if value is None and key in _NULLABLE:
        pass
    elif wanted is float and type(value) is int:
        value = float(value)
    elif wanted in (list, tuple) and isinstance(value, (list, tuple)):
        value = list(value) if wanted is list else tuple(value)
        if not _alike(value, present):
            return [f"{key}: {value!r} does not hold the kind of values expected, such as {present!r}"]
    elif type(value) is not wanted:
        return [f"{key}: {value!r} is {_name(type(value))}, {_name(wanted)} is expected, such as {present!r}"]
    node[parts[-1]] = value
    return []


def _literal(value: Any) -> Any:
    """Return the Python literal that a string spells ("1e-3", "(600,)"), also one of a YAML file, as yacs does."""
    if not isinstance(value, str):
        return value
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value


def _alike(value: Any, present: Any) -> bool:
    """Return True if two (nested) sequences hold values of the same kinds; int and float are one kind."""
    wanted, found = _kinds(present), _kinds(value)
    return not wanted or found <= wanted


def _kinds(value: Any) -> set[type]:
    if isinstance(value, (list, tuple)):
        return set().union(*(_kinds(item) for item in value))
    return {float} if type(value) is int else {type(value)}


def _name(kind: type) -> str:
    names = {
        list: "a list",
        tuple: "a list",
        str: "a string",
        int: "an integer",
        float: "a number",
        bool: "True or False",
    }
    return names.get(kind, kind.__name__)


def _nearest(cfg: CfgNode, key: str) -> str:
    known = {name.lower(): name for name in keys(cfg)}
    last = {name.rsplit(".", 1)[-1]: name for name in known}
    found = difflib.get_close_matches(key.lower(), known, n=3)
    found += [last[name] for name in difflib.get_close_matches(key.lower().rsplit(".", 1)[-1], last, n=3, cutoff=0.8)]
    names = list(dict.fromkeys(known[name] for name in found))[:3]
    return f" (nearest: {', '.join(names)})" if names else ""
