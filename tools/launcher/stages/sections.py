"""The sections of a pipeline file, read with every fault noted: mappings, values, paths, settings, resources."""

import functools
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pretrain.runtime.errors import UserError
from pretrain.runtime.host import config_path, expand_home

from ..cluster import resources
from ..cluster.errors import LaunchError
from ..cluster.resources import Resources

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")  # of a task and of a start: they name folders and jobs
_TAKEN = ("scenes", "pretrain", "convert", "report", "launch")
_Built = TypeVar("_Built")


class SectionReader:
    """A reader of sections that gathers their faults.

    Attributes:
        faults: what is wrong so far, with where it stands.
        flags: resources of the command line, over those of every section.
        common: resources of the file, for the sections that name none.
    """

    def __init__(self, flags: Mapping[str, Any]) -> None:
        self.faults: list[str] = []
        self.common: list[tuple[str, Mapping[Any, Any]]] = []
        self.flags = self._checked(flags)

    def _checked(self, flags: Mapping[str, Any]) -> Mapping[str, Any]:
        """Check the flags once, for all sections."""
        try:
            resources.resolve_resources(("command line", flags))
        except LaunchError as error:
            self.faults += str(error).splitlines()
            return {}
        return flags

    def built(self, where: str, build: Callable[[], _Built]) -> _Built | None:
        """Return what `build` makes; where that is a user's mistake, note it and return None."""
        try:
            return build()
        except UserError as error:
            self.faults += _indented(where, error)
            return None

    def mapping(self, content: Any, where: str, keys: tuple[str, ...] | None) -> dict[str, Any]:
        """Return the known keys of a mapping; what is none, or has others than `keys` (None: any), is a fault."""
        if not isinstance(content, Mapping):
            self.faults.append(f"{where or 'the file'}: must be a mapping, NAME: VALUE, is {content!r}")
            return {}
        unknown = [name for name in content if keys is not None and name not in keys]
        if unknown:
            named = ", ".join(f"{where}.{name}".lstrip(".") for name in unknown)
            self.faults.append(f"{named}: no such key; there are {', '.join(keys or ())}")
        return {str(name): value for name, value in content.items() if name not in unknown}

    def named(self, section: dict[str, Any], key: str, where: str) -> dict[str, Any]:
        """Return a mapping that is not empty, of names that may be folders."""
        found = self.mapping(section.get(key, {}), f"{where}.{key}", None)
        if not found:
            self.faults.append(f"{where}.{key}: none is there; give NAME: VALUE")
        for name in found:
            if not _NAME.fullmatch(name) or name in _TAKEN:
                self.faults.append(
                    f"{where}.{key}.{name}: a name is made of letters, digits, _, . and -, and none of "
                    f"{', '.join(_TAKEN)}"
                )
        return found

    def value(self, section: dict[str, Any], key: str, where: str, kind: type, default: Any, least: int = 0) -> Any:
        """Return a whole number, `least` or more, or text; the default where there is none or it is a fault."""
        value = section.get(key)
        if value is None:
            return default
        if kind is int and (isinstance(value, bool) or not isinstance(value, int) or value < least):
            self.faults.append(f"{where}: is {value!r}, must be a whole number, {least} or more")
            return default
        if kind is str and not (isinstance(value, str) and value):
            self.faults.append(f"{where}: is {value!r}, must be text")
            return default
        return value

    def path(self, section: dict[str, Any], key: str, where: str) -> str | None:
        """Return the path that a section names, with the home folder for `~`; None where it names none."""
        value = self.value(section, key, where, str, None)
        return None if value is None else expand_home(value)

    def config(self, section: dict[str, Any], stage: str, where: str) -> str | None:
        """Return the path of the configuration that a section names, by path or by its name in configs/<stage>/."""
        value = self.value(section, "config", where, str, None)
        found = self.built(where, functools.partial(config_path, value, stage)) if value else None
        return None if found is None else str(found)

    def words(self, section: dict[str, Any], key: str, where: str) -> tuple[str, ...]:
        """Return the paths and names that a section gives: one, or a list of them."""
        value = section.get(key) or []
        words = value if isinstance(value, list) else [value]
        if any(not isinstance(word, str) or not word for word in words):
            self.faults.append(f"{where}: is {value!r}, must be a path or a name, or a list of them")
            return ()
        return tuple(map(expand_home, words))

    def settings(self, section: dict[str, Any], where: str, ours: str) -> list[str]:
        """Return the KEY VALUE words of a mapping; a value is written as Python writes it, as the tools read it."""
        words = []
        for key, value in self.mapping(section.get("settings", {}), f"{where}.settings", None).items():
            if isinstance(value, Mapping):
                self.faults.append(
                    f"{where}.settings.{key}: give the full name, such as {key}.{next(iter(value), 'KEY')}"
                )
            elif key == ours:
                self.faults.append(f"{where}.settings.{key}: the pipeline chooses it, from `output`")
            words += [key, str(value)]
        return words

    def resources_of(self, given: Any, where: str) -> list[tuple[str, Mapping[Any, Any]]]:
        """Return the layer of a section's `resources`: a mapping, or a file by its path or name."""
        try:
            if isinstance(given, str):
                return [(given, resources.content(config_path(given, "launch")))]
        except UserError as error:
            self.faults.append(f"{where}: {error}")
            return []
        return [(where, self.mapping(given, where, None))] if given is not None else []

    def resources(
        self, section: dict[str, Any], where: str, inner: dict[str, Any] | None = None, inner_where: str = ""
    ) -> Resources:
        """Return those of the innermost section that names any, else the file's common ones, under the flags."""
        layers = self.resources_of((inner or {}).get("resources"), f"{inner_where}.resources")
        layers = layers or self.resources_of(section.get("resources"), f"{where}.resources") or self.common
        try:
            return resources.resolve_resources(*layers, ("command line", self.flags))
        except LaunchError as error:
            self.faults += _indented(where, error)
            return Resources()


def _indented(where: str, error: Exception) -> list[str]:
    return [f"{where}: {line.strip()}" for line in str(error).splitlines()]
