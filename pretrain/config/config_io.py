"""The reading and writing of a Config: from a YAML file and words of the command line, to YAML and to flat keys."""

import dataclasses
import json
import pathlib
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from pretrain.config import text as config_text
from pretrain.config.nearest import nearest_settings
from pretrain.config.schema import FIELDS, PATHS, SECTIONS, Config, Model, refuse
from pretrain.config.setting import allowed_range
from pretrain.config.text import ConfigError
from pretrain.models.registry import METHODS
from pretrain.runtime.errors import UserError
from pretrain.runtime.host import config_names, expand_home
from pretrain.runtime.invocation.pairs import misread_words


def load(config_file: str | pathlib.Path | None, overrides: Sequence[str] = ()) -> Config:
    """Load the settings of a YAML file (and its `_BASE_`), then of `KEY VALUE` pairs, over the defaults.

    Raises ConfigError with every fault at once: keys that do not exist, wrong types, values out of range.
    """
    refuse(misread_words(overrides, config_names("pretrain")))  # what follows would be faults of these words
    faults: list[str] = []
    given = list(_flatten(config_text.read_yaml(config_file))) if config_file is not None else []
    if len(overrides) % 2:
        faults.append(f"{overrides[-1]}: no value; settings come as KEY VALUE pairs, separated by spaces")
    given += zip(overrides[::2], overrides[1::2], strict=False)
    values: dict[str, Any] = {}
    for key, value in given:
        try:
            values[key] = _convert(key, value)
        except ConfigError as error:
            faults += error.faults
    if not values.get("data.root") and not any(fault.startswith("data.root: ") for fault in faults):
        faults.append("data.root: not set; give the folder of images: data.root FOLDER")
    try:
        config = _build(values)
    except ConfigError as error:
        faults += error.faults
    refuse(faults)
    return config


def defaults(config: Config) -> Config:
    """Return the defaults of all settings, of the method's own section too."""
    method = None if config.method is None else type(config.method)()
    return Config(model=Model(mechanism=config.model.mechanism), method=method)


def to_yaml(config: Config) -> str:
    """Return YAML that `load` reads back to an equal Config."""
    values = dataclasses.asdict(config)
    own = values.pop("method")
    if own is not None:
        values[config.model.mechanism] = own
    return yaml.safe_dump(values, sort_keys=False)


def flat(config: Config) -> dict[str, Any]:
    """Return the values by dotted key, tuples as lists."""
    values: dict[str, Any] = {}
    for name, value in yaml.safe_load(to_yaml(config)).items():
        values |= {f"{name}.{key}": inner for key, inner in value.items()} if name in _sections() else {name: value}
    return values


def describe() -> str:
    """Return a line for each setting: its key, default, meaning and range."""
    lines = []
    for key, item in _fields().items():
        allowed = f" ({allowed_range(item)})" if allowed_range(item) else ""
        lines.append(f"  {key:<24} {json.dumps(item.default):<16} {item.metadata.get('text', '')}{allowed}")
    return "\n".join(lines)


def _sections() -> dict[str, type]:
    """Return the dataclasses of all sections by name, with those that registered methods add; the built-in add none."""
    added = {name: found.section for name, found in METHODS.items() if not isinstance(found, str) and found.section}
    return {**added, **SECTIONS}


def _fields() -> dict[str, dataclasses.Field[Any]]:
    """Return FIELDS, followed by the fields of the sections that registered methods add."""
    added = {
        f"{name}.{item.name}": item
        for name, section in _sections().items()
        if name not in SECTIONS
        for item in dataclasses.fields(section)
    }
    return FIELDS | added


def _flatten(given: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted keys and their values; a section without lines has none."""
    for name, value in given.items():
        key = f"{prefix}{name}"
        if key not in _fields() and isinstance(value, Mapping):
            yield from _flatten(value, f"{key}.")
        elif key not in _sections() or value is not None:
            yield key, value


def _convert(key: str, value: Any) -> Any:
    """Return the value in the type of its setting."""
    if key in _sections():
        raise ConfigError([f"{key}: is a section and takes no value; its settings are {', '.join(_keys_below(key))}"])
    if key not in _fields():
        near = ", ".join(nearest_settings(key, list(_fields())))
        hint = f"nearest: {near}" if near else "tools/train_moco.py --help lists all"
        raise ConfigError([f"{key}: no such setting; {hint}"])
    item = _fields()[key]
    try:
        converted = config_text.convert(value, typing.get_type_hints(_section(key))[item.name])
        return expand_home(converted) if key in PATHS else converted
    except UserError as error:
        raise ConfigError([f"{key}: {error}"]) from error
    except ValueError as error:
        raise ConfigError([f"{key}: {value!r} is not {error} such as {json.dumps(item.default)}"]) from None


def _build(values: Mapping[str, Any]) -> Config:
    """Make the Config of values by dotted key. Raises ConfigError with every fault of every section."""
    faults: list[str] = []
    parts: dict[str, Any] = {}
    for name, section in SECTIONS.items():
        try:
            parts[name] = section(**_below(name, values))
        except ConfigError as error:
            faults += error.faults
    if "model" in parts:
        try:
            parts["method"] = _build_own_section(parts["model"].mechanism, values)
        except ConfigError as error:
            faults += error.faults
    try:
        config = Config(**parts, **{key: value for key, value in values.items() if "." not in key})
    except ConfigError as error:
        faults += error.faults
    refuse(faults)
    return config


def _build_own_section(chosen: str, values: Mapping[str, Any]) -> Any:
    """Make the section that the chosen method adds, or None. Raises ConfigError for settings of another method."""
    refuse(
        [
            f"{key}: a setting of method {name}, but model.mechanism is {chosen}"
            for key in values
            if (name := key.partition(".")[0]) in _sections().keys() - SECTIONS.keys() and name != chosen
        ]
    )
    section = _sections().get(chosen)
    try:
        return section(**_below(chosen, values)) if section else None
    except ValueError as error:
        raise ConfigError([f"{chosen}: {error}"]) from error


def _below(section: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a section by the names of its fields."""
    return {key.partition(".")[2]: value for key, value in values.items() if key.partition(".")[0] == section}


def _section(key: str) -> type:
    return _sections()[key.partition(".")[0]] if "." in key else Config


def _keys_below(section: str) -> list[str]:
    return [key for key in _fields() if key.startswith(f"{section}.")]
