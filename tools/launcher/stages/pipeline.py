"""A pipeline file: pretraining, conversion, fine-tuning from several starts on several tasks, the report, as stages."""

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from pretrain.runtime import files
from pretrain.runtime.errors import UserError
from pretrain.runtime.host import expand_home, user_path
from transfer import engines
from transfer.data.common import faults
from transfer.report import page
from transfer.run.options import RunOptions

from ..cluster import resources
from ..cluster.errors import LaunchError
from ..cluster.resources import Resources
from .build import check_fine_tuning, fine_tuning, pretraining
from .options import ConvertOptions, ReportOptions
from .stage import Stage

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
        *("config", "settings", "dataset_root", "classes", "engine", "scale_to", "data_rules"),
        *("trials", "parallel", "resources"),
    ),
    "report": ("images", "resamples", "resources"),
}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")  # of a task and of a start: they name folders and jobs
_TAKEN = ("pretrain", "convert", "report", "launch")


_Built = TypeVar("_Built")


@dataclass(frozen=True)
class Pipeline:
    """A run: where it lies, and its stages in an order in which each comes after those that it needs."""

    output: Path
    stages: tuple[Stage, ...]


def read_pipeline(path: Path, output: Path | None, flags: Mapping[str, Any]) -> Pipeline:
    """Read the pipeline of a YAML file.

    Args:
        output: in place of the file's.
        flags: resources over those of the file, for every stage.

    Raises:
        LaunchError: every fault of the file, of its configs and of its resources.
    """
    try:
        content = files.load_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise LaunchError(f"{path}: cannot be read: {error}") from error
    reader = _Reader(content, output, flags)
    stages = tuple(reader.stages())
    if reader.faults:
        raise LaunchError("\n  ".join([f"{path}:", *dict.fromkeys(reader.faults)]))
    return Pipeline(reader.output, stages)


class _Reader:
    """A reader that turns the content of a file into stages and gathers every fault on the way."""

    def __init__(self, content: Any, output: Path | None, flags: Mapping[str, Any]) -> None:
        self.faults: list[str] = []
        self.flags = self._checked(flags)
        self.content = self._mapping(content, "", KEYS[""])
        self.output = output or user_path(self._value(self.content, "output", "output", str, "output"))
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
        file = self._path(section, "config", "pretrain.config")
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
        asked = _one_process(self._resources(section, "convert"))
        options = ConvertOptions(source, result, encoder)
        return Stage("convert", options, str(folder), result, asked, ("pretrain",))

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
        config_file = self._path(own, "config", f"{where}.config")
        if not config_file:
            self.faults.append(f"{where}.config: no YAML of configs/transfer/ is named")
            return
        asked = self._resources(section, "finetune", own, where)
        pretrained = init == PRETRAINED
        after = (made[-1].name,) if pretrained and made else ()
        overrides = (*self._settings(own, where, "OUTPUT_DIR"), "OUTPUT_DIR", str(self.output / task / start))

        def checked() -> tuple[RunOptions, Path]:
            run = RunOptions(
                config_file=Path(config_file),
                overrides=overrides,
                init=made[-1].result if after else expand_home(str(init)),
                seed=seed,
                **self._run_options(both, where, init),
            )
            return run, check_fine_tuning(run)

        found = self._built(f"{where}, start {start}", checked)
        if found is None:
            return
        run, output = found
        for trial in range(trials):
            name, array = f"{task}/{start}/trial_{trial}", f"{task}/{start}"
            yield fine_tuning(name, run, output, asked, trial, after=after, array=array, parallel=parallel)

    def _run_options(self, both: dict[str, Any], where: str, init: Any) -> dict[str, Any]:
        """Return the options of a fine-tuning run that a section gives, as RunOptions names them."""
        root = self._path(both, "dataset_root", f"{where}.dataset_root")
        engine = self._value(both, "engine", f"{where}.engine", str, "auto")
        if engine not in engines.NAMES:
            self.faults.append(f"{where}.engine: is {engine!r}, must be one of {', '.join(engines.NAMES)}")
            engine = "auto"
        rules = self._mapping(both.get("data_rules", {}), f"{where}.data_rules", None)
        options = {
            "dataset_root": root and Path(root),
            "classes": self._value(both, "classes", f"{where}.classes", str, None),
            "engine": engine,
            "scale_to": self._value(both, "scale_to", f"{where}.scale_to", int, None, least=1),
            "data_rules": faults.parse_rules([f"{kind}={rule}" for kind, rule in rules.items()]),
        }
        if init == "supervised":
            file = self._path(both, "supervised_weights", "finetune.supervised_weights")
            options |= {"supervised_weights": Path(file)} if file else {"download": True}
        return options

    def _report(self, tuned: list[Stage]) -> Stage:
        section = self._mapping(self.content.get("report", {}), "report", KEYS["report"])
        folder = self.output / "report"
        title = self._value(self.content, "title", "title", str, None)
        tasks = dict.fromkeys(str(self.output / stage.name.split("/")[0]) for stage in tuned)
        images, resamples = (
            self._value(section, key, f"report.{key}", int, None, least=0) for key in ("images", "resamples")
        )
        options = ReportOptions(tuple(tasks), str(folder), images, resamples, title or None)
        asked = _one_process(self._resources(section, "report"))
        after = tuple(stage.name for stage in tuned)
        return Stage("report", options, str(folder), str(folder / page.PAGE), asked, after)

    def _built(self, where: str, build: Callable[[], _Built]) -> _Built | None:
        try:
            return build()
        except UserError as error:
            self.faults += _indented(where, error)
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
        """Return a mapping that is not empty, of names that may be folders."""
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

    def _path(self, section: dict[str, Any], key: str, where: str) -> str | None:
        """Return the path that a section names, with the home folder for `~`; None where it names none."""
        value = self._value(section, key, where, str, None)
        return None if value is None else expand_home(value)

    def _settings(self, section: dict[str, Any], where: str, ours: str) -> list[str]:
        """Return the KEY VALUE words of a mapping; a value is written as Python writes it, as the tools read it."""
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
        """Return the layer of a section's `resources`: a mapping, or the path of a file."""
        try:
            if isinstance(given, str):
                return [(given, resources.content(user_path(given)))]
        except LaunchError as error:
            self.faults.append(f"{where}: {error}")
            return []
        return [(where, self._mapping(given, where, None))] if given is not None else []

    def _resources(
        self, section: dict[str, Any], where: str, inner: dict[str, Any] | None = None, inner_where: str = ""
    ) -> Resources:
        """Return those of the innermost section that names any, else the file's common ones, under the flags."""
        layers = self._resources_of((inner or {}).get("resources"), f"{inner_where}.resources")
        layers = layers or self._resources_of(section.get("resources"), f"{where}.resources") or self.common
        try:
            return resources.resolve_resources(*layers, ("command line", self.flags))
        except LaunchError as error:
            self.faults += _indented(where, error)
            return Resources()

    def _checked(self, flags: Mapping[str, Any]) -> Mapping[str, Any]:
        """Check the flags once, for all sections."""
        try:
            resources.resolve_resources(("command line", flags))
        except LaunchError as error:
            self.faults += str(error).splitlines()
            return {}
        return flags


def _indented(where: str, error: Exception) -> list[str]:
    return [f"{where}: {line.strip()}" for line in str(error).splitlines()]


def _one_process(asked: Resources) -> Resources:
    """Return the resources for a tool that is one process on one machine and needs no GPU."""
    return dataclasses.replace(asked, nodes=None, gpus=None, processes=None)
