"""A pipeline file: pretraining, conversion, fine-tuning from several starts on several tasks, the report, as stages."""

import dataclasses
import functools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pretrain.runtime.errors import UserError
from transfer import engines
from transfer.errors import TransferError
from transfer.report import page

from ..cluster import resources
from ..cluster.resources import Resources
from .stage import Stage, fine_tuning, pretraining

PRETRAINED = "pretrained"  # a start: what this pipeline pretrains
KEYS = {
    "": ("output", "title", "resources", "pretrain", "convert", "finetune", "report"),
    "pretrain": ("config", "settings", "resources"),
    "convert": ("encoder", "resources"),
    "finetune": (
        *("trials", "seed", "parallel", "starts", "supervised_weights", "tasks"),
        *("dataset_root", "engine", "resources"),
    ),
    "finetune.tasks": (
        *("config", "settings", "dataset_root", "engine", "scale_to", "data_rules", "trials", "parallel", "resources"),
    ),
    "report": ("images", "resamples", "resources"),
}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")  # of a task and of a start: they name folders and jobs
_TAKEN = ("pretrain", "convert", "report", "launch")


@dataclass(frozen=True)
class Pipeline:
    """A run: where it lies, and its stages in an order in which each comes after those that it needs."""

    output: Path
    stages: tuple[Stage, ...]


def read(path: Path, output: Path | None, flags: Mapping[str, Any]) -> Pipeline:
    """The pipeline of a YAML file.

    Args:
        output: in place of the file's.
        flags: resources over those of the file, for every stage.

    Raises:
        TransferError: every fault of the file, of its configs and of its resources.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise TransferError(f"{path}: cannot be read: {error}") from error
    reader = _Reader(content, output, flags)
    stages = tuple(reader.stages())
    if reader.faults:
        raise TransferError("\n  ".join([f"{path}:", *dict.fromkeys(reader.faults)]))
    return Pipeline(reader.output, stages)


class _Reader:
    """Turns the content of a file into stages and gathers every fault on the way."""

    def __init__(self, content: Any, output: Path | None, flags: Mapping[str, Any]) -> None:
        self.faults: list[str] = []
        self.flags = self._checked(flags)
        self.content = self._mapping(content, "", KEYS[""])
        self.output = output or Path(self._value(self.content, "output", "output", str, "output"))
        if output is None and not self.content.get("output"):
            self.faults.append("output: no folder is named, here or by --output")
        self.common = self._resources_of(self.content.get("resources"), "resources")

    def stages(self) -> Iterator[Stage]:
        made = self._pretrain()
        yield from made
        tuned = list(self._finetune(made))
        yield from tuned
        if tuned:
            yield self._report(tuned)
        if not made and not tuned and not self.faults:
            self.faults.append("nothing to do: neither pretrain nor finetune is there")

    def _pretrain(self) -> list[Stage]:
        if "pretrain" not in self.content:
            return []
        section = self._mapping(self.content["pretrain"], "pretrain", KEYS["pretrain"])
        asked = self._resources(section, "pretrain")
        folder = str(self.output / "pretrain")
        settings = self._settings(section, "pretrain", "output_dir")
        file = self._value(section, "config", "pretrain.config.schema", str, None)
        stage = self._built("pretrain", lambda: pretraining("pretrain", file, (*settings, "output_dir", folder), asked))
        convert = self._convert(stage.result if stage else "")
        return [stage, convert] if stage else []

    def _convert(self, source: str) -> Stage:
        section = self._mapping(self.content.get("convert", {}), "convert", KEYS["convert"])
        encoder = self._value(section, "encoder", "convert.encoder", str, "query")
        if encoder not in ("query", "key"):
            self.faults.append(f"convert.encoder: is {encoder!r}, must be query or key")
        folder = self.output / "convert"
        result = str(folder / "backbone.pth")
        words = (source, result, "--to", "detectron2", "--encoder", encoder)
        asked = _one_process(self._resources(section, "convert"))
        return Stage("convert", "convert", "convert.py", None, words, str(folder), result, asked, ("pretrain",))

    def _finetune(self, made: list[Stage]) -> Iterator[Stage]:
        if "finetune" not in self.content:
            return
        section = self._mapping(self.content["finetune"], "finetune", KEYS["finetune"])
        starts = self._named(section, "starts", "finetune")
        tasks = self._named(section, "tasks", "finetune")
        if PRETRAINED in starts.values() and "pretrain" not in self.content:
            self.faults.append(f"finetune.starts: {PRETRAINED} needs a section pretrain")
        for task, content in tasks.items():
            where = f"finetune.tasks.{task}"
            for start, init in starts.items():
                yield from self._trials(
                    task, start, init, section, self._mapping(content, where, KEYS["finetune.tasks"]), made
                )

    def _trials(
        self, task: str, start: str, init: Any, section: dict[str, Any], own: dict[str, Any], made: list[Stage]
    ) -> Iterator[Stage]:
        where = f"finetune.tasks.{task}"
        both = {**section, **own}
        trials = self._value(both, "trials", f"{where}.trials", int, 1, least=1)
        parallel = self._value(both, "parallel", f"{where}.parallel", int, None, least=1)
        seed = self._value(both, "seed", "finetune.seed", int, 0, least=0)
        config_file = self._value(own, "config", f"{where}.config", str, "")
        if not config_file:
            self.faults.append(f"{where}.config: no YAML of configs/transfer/ is named")
            return
        asked = self._resources(section, "finetune", own, where)
        pretrained = init == PRETRAINED
        after = (made[-1].name,) if pretrained and made else ()
        words = [
            *("--init", made[-1].result if after else str(init), "--seed", str(seed)),
            *self._options(both, where, init),
            *(*self._settings(own, where, "OUTPUT_DIR"), "OUTPUT_DIR", str(self.output / task / start)),
        ]
        for trial in range(trials):
            name = f"{task}/{start}/trial_{trial}"
            more = {"trial": trial, "after": after, "array": f"{task}/{start}", "parallel": parallel}
            build = functools.partial(fine_tuning, name, config_file, words, asked, **more)
            stage = self._built(f"{where}, start {start}", build)
            if stage is None:
                return  # the other trials have the same fault
            yield stage

    def _options(self, both: dict[str, Any], where: str, init: Any) -> Iterator[str]:
        root = self._value(both, "dataset_root", f"{where}.dataset_root", str, None)
        engine = self._value(both, "engine", f"{where}.engine", str, None)
        scale_to = self._value(both, "scale_to", f"{where}.scale_to", int, None, least=1)
        if engine is not None and engine not in engines.NAMES:
            self.faults.append(f"{where}.engine: is {engine!r}, must be one of {', '.join(engines.NAMES)}")
            engine = None
        for flag, value in (("--dataset-root", root), ("--engine", engine), ("--scale-to", scale_to)):
            if value is not None:
                yield from (flag, str(value))
        for kind, rule in self._mapping(both.get("data_rules", {}), f"{where}.data_rules", None).items():
            yield from ("--data-rule", f"{kind}={rule}")
        if init == "supervised":
            file = self._value(both, "supervised_weights", "finetune.supervised_weights", str, None)
            yield from ("--supervised-weights", file) if file else ("--download",)

    def _report(self, tuned: list[Stage]) -> Stage:
        section = self._mapping(self.content.get("report", {}), "report", KEYS["report"])
        folder = self.output / "report"
        title = self._value(self.content, "title", "title", str, None)
        tasks = dict.fromkeys(str(self.output / stage.name.split("/")[0]) for stage in tuned)
        words = [*tasks, "--output", str(folder), "--overwrite"]
        for flag, kind in (("images", int), ("resamples", int)):
            value = self._value(section, flag, f"report.{flag}", kind, None, least=0)
            words += [f"--{flag}", str(value)] if value is not None else []
        words += ["--title", title] if title else []
        asked = _one_process(self._resources(section, "report"))
        after = tuple(stage.name for stage in tuned)
        return Stage(
            "report", "report", "report.py", None, tuple(words), str(folder), str(folder / page.PAGE), asked, after
        )

    def _built(self, where: str, build: Callable[[], Stage]) -> Stage | None:
        try:
            return build()
        except UserError as error:
            self.faults += _indented(where, error)
            return None
        except SystemExit:  # argparse has said why
            self.faults.append(f"{where}: its options are not those of the tool")
            return None

    def _mapping(self, content: Any, where: str, keys: tuple[str, ...] | None) -> dict[str, Any]:
        if not isinstance(content, Mapping):
            self.faults.append(f"{where or 'the file'}: must be a mapping, NAME: VALUE, is {content!r}")
            return {}
        unknown = [name for name in content if keys is not None and name not in keys]
        if unknown:
            named = ", ".join(f"{where}.{name}".lstrip(".") for name in unknown)
            self.faults.append(f"{named}: no such key; there are {', '.join(keys or ())}")
        return {str(name): value for name, value in content.items() if name not in unknown}

    def _named(self, section: dict[str, Any], key: str, where: str) -> dict[str, Any]:
        """A mapping that is not empty, of names that may be folders."""
        found = self._mapping(section.get(key, {}), f"{where}.{key}", None)
        if not found:
            self.faults.append(f"{where}.{key}: none is there; give NAME: VALUE")
        for name in found:
            if not _NAME.fullmatch(name) or name in _TAKEN:
                self.faults.append(
                    f"{where}.{key}.{name}: a name is made of letters, digits, _, . and -, and none of "
                    f"{', '.join(_TAKEN)}"
                )
        return found

    def _value(self, section: dict[str, Any], key: str, where: str, kind: type, default: Any, least: int = 0) -> Any:
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

    def _settings(self, section: dict[str, Any], where: str, ours: str) -> list[str]:
        """KEY VALUE words of a mapping; a value is written as Python writes it, as the tools read it."""
        words = []
        for key, value in self._mapping(section.get("settings", {}), f"{where}.settings", None).items():
            if isinstance(value, Mapping):
                self.faults.append(
                    f"{where}.settings.{key}: give the full name, such as {key}.{next(iter(value), 'KEY')}"
                )
            elif key == ours:
                self.faults.append(f"{where}.settings.{key}: the pipeline chooses it, from `output`")
            words += [key, str(value)]
        return words

    def _resources_of(self, given: Any, where: str) -> list[tuple[str, Mapping[Any, Any]]]:
        """The layer that a section's `resources` are: a mapping, or the path of a file."""
        try:
            if isinstance(given, str):
                return [(given, resources.content(Path(given)))]
        except TransferError as error:
            self.faults.append(f"{where}: {error}")
            return []
        return [(where, self._mapping(given, where, None))] if given is not None else []

    def _resources(
        self, section: dict[str, Any], where: str, inner: dict[str, Any] | None = None, inner_where: str = ""
    ) -> Resources:
        """Those of the innermost section that names any, under the flags; where none does, the file's common ones."""
        layers = self._resources_of((inner or {}).get("resources"), f"{inner_where}.resources")
        layers = layers or self._resources_of(section.get("resources"), f"{where}.resources") or self.common
        try:
            return resources.read(*layers, ("command line", self.flags))
        except TransferError as error:
            self.faults += _indented(where, error)
            return Resources()

    def _checked(self, flags: Mapping[str, Any]) -> Mapping[str, Any]:
        """Flags once, for all sections."""
        try:
            resources.read(("command line", flags))
        except TransferError as error:
            self.faults += str(error).splitlines()
            return {}
        return flags


def _indented(where: str, error: Exception) -> list[str]:
    return [f"{where}: {line.strip()}" for line in str(error).splitlines()]


def _one_process(asked: Resources) -> Resources:
    """For a tool that is one process on one machine and needs no GPU."""
    return dataclasses.replace(asked, nodes=None, gpus=None, processes=None)
