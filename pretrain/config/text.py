"""The reading of YAML files and words of the command line as typed values. Knows no setting."""

import ast
import contextlib
import pathlib
import types
import typing
from collections.abc import Sequence
from typing import IO, Any

import yaml
from fvcore.common.config import CfgNode

from pretrain.runtime import files
from pretrain.runtime.errors import PretrainError

NAMES = {
    int: "a whole number (int)",
    float: "a number (float)",
    bool: "true or false (bool)",
    str: "text (str)",
    tuple: "a list of numbers",
    types.UnionType: "a whole number (int) or a word (str)",
}


class ConfigError(PretrainError):
    """The faults in the settings, all of them in one message."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__(tuple(faults))
        self.faults = tuple(faults)

    def __str__(self) -> str:
        if len(self.faults) == 1:
            return self.faults[0]
        return f"{len(self.faults)} faults in the settings:\n" + "\n".join(f"  {fault}" for fault in self.faults)


class _Checked(CfgNode):
    """A reader of YAML with `_BASE_` that refuses a key given twice in one file."""

    @classmethod
    def _open_cfg(cls, filename: str) -> IO[str]:
        with super()._open_cfg(filename) as file:
            files.load_yaml(file)
        return super()._open_cfg(filename)


def read_yaml(path: str | pathlib.Path) -> dict[Any, Any]:
    """The file's mapping, with that of its `_BASE_` files below it. Raises ConfigError naming the file."""
    if not pathlib.Path(path).is_file():
        raise ConfigError([f"{path}: no such config file"])
    try:
        # Never pass allow_unsafe: YAML tags could run code.
        content = _Checked.load_yaml_with_base(str(path))
        if not isinstance(content, dict):
            raise TypeError
        return content
    except FileNotFoundError as error:
        raise ConfigError([f"{path}: its _BASE_ names {error.filename}, which is not there"]) from error
    except yaml.YAMLError as error:
        raise ConfigError([f"{path}: not valid YAML: {' '.join(str(error).split())}"]) from error
    except RecursionError as error:
        raise ConfigError([f"{path}: its _BASE_ leads back to itself"]) from error
    except (TypeError, AttributeError, AssertionError) as error:  # fvcore, where a file or a section is not a mapping
        raise ConfigError([f"{path}: it and its _BASE_ must hold mappings, section: {{key: value}}"]) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path}: cannot be read: {error}"]) from error


def convert(value: Any, kind: Any) -> Any:
    """Convert a value to int, float, bool, str or a tuple of these; text becomes a Python literal unless str is wanted.

    Raises ValueError, saying what is wanted, where it is none: "a number (float)".
    """
    if isinstance(value, str) and kind is not str:
        with contextlib.suppress(ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            value = ast.literal_eval({"true": "True", "false": "False"}.get(value.strip(), value.strip()))
    try:
        return _as(value, kind)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(NAMES[typing.get_origin(kind) or kind]) from None


def _as(value: Any, kind: Any) -> Any:
    if typing.get_origin(kind) is types.UnionType:  # of int and str
        if type(value) not in (int, str):
            raise TypeError
        return value
    if typing.get_origin(kind) is tuple:
        kinds = typing.get_args(kind)
        if not isinstance(value, list | tuple):
            raise TypeError
        if kinds[-1] is Ellipsis:
            kinds = kinds[:1] * len(value)
        return tuple(_as(element, each) for element, each in zip(value, kinds, strict=True))
    if kind is float and type(value) is int:
        return float(value)
    if kind is str and type(value) in (int, float):  # a folder named 2012
        return str(value)
    if type(value) is not kind:
        raise TypeError
    return value
