"""A pipeline file as stages: made-up scenes, pretraining, conversion, fine-tuning on several tasks, the report."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pretrain.runtime import files
from pretrain.runtime.host import expand_home, user_path
from transfer import engines
from transfer.data import labels
from transfer.data.common import faults
from transfer.report import PAGE
from transfer.run.options import RunOptions

from ..cluster.errors import LaunchError
from ..cluster.resources import Resources
from .build import check_fine_tuning, fine_tuning, pretraining
from .options import ConvertOptions, ReportOptions, ScenesOptions
from .sections import SectionReader
from .stage import Stage

PRETRAINED = "pretrained"  # a start: what this pipeline pretrains
TRIAL_SEEDS = 1000  # of one seed of the whole: no other's trials share theirs
KEYS = {
    "": ("output", "title", "resources", "scenes", "pretrain", "convert", "finetune", "report", "measured", "note"),
    "scenes": ("unlabelled", "train", "test", "seed", "resources"),
    "pretrain": ("config", "settings", "resources"),
    "convert": ("encoder", "resources"),
    "finetune": (
        *("trials", "seed", "parallel", "starts", "supervised_weights", "tasks"),
        *("dataset_root", "engine", "labels", "labels_seed", "wandb", "mlflow", "resources"),
    ),
    "finetune.tasks": (
        *("config", "settings", "dataset_root", "classes", "engine", "scale_to", "data_rules"),
        *("data", "train", "test"),
        *("labels", "labels_seed", "trials", "parallel", "wandb", "mlflow", "resources"),
    ),
    "report": ("images", "resamples", "resources"),
    "measured": ("machine", "minutes"),
}


@dataclass(frozen=True)
class Measured:
    """The minutes that the parts of a pipeline took on some machine: "pretrain", all trials of the task "voc", ..."""

    machine: str
    minutes: Mapping[str, float]

    def told(self) -> str:
        """Return the time of the whole in words."""
        return f"the whole took {sum(self.minutes.values()):.1f} min on {self.machine}"


@dataclass(frozen=True)
class Pipeline:
    """A run: where it lies, and its stages in an order in which each comes after those that it needs.

    Attributes:
        measured: what it took where somebody measured it.
        note: what its output ends with.
    """

    output: Path
    stages: tuple[Stage, ...]
    measured: Measured | None = None
    note: str | None = None


def read_pipeline(path: Path, output: Path | None, flags: Mapping[str, Any], seed: int | None = None) -> Pipeline:
    """Read the pipeline of a YAML file.

    Args:
        output: in place of the file's.
        flags: resources over those of the file, for every stage.
        seed: of the scenes, of pretraining and of drawn labels, in place of the file's; the first trial's is 1000 times
            it.

    Raises:
        LaunchError: every fault of the file, of its configs and of its resources.
    """
    try:
        content = files.load_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise LaunchError(f"{path}: cannot be read: {error}") from error
    reader = _Reader(content, output, flags, seed)
    stages = tuple(reader.stages())
    read = Pipeline(
        reader.output, stages, reader.measured(stages), reader.value(reader.content, "note", "note", str, None)
    )
    if reader.faults:
        raise LaunchError("\n  ".join([f"{path}:", *dict.fromkeys(reader.faults)]))
    return read


class _Reader(SectionReader):
    """A reader that turns the content of a file into stages and gathers every fault on the way."""

    def __init__(self, content: Any, output: Path | None, flags: Mapping[str, Any], seed: int | None) -> None:
        super().__init__(flags)
        self.seed = seed
        self.content = self.mapping(content, "", KEYS[""])
        self.output = output or user_path(self.value(self.content, "output", "output", str, "output"))
        if output is None and not self.content.get("output"):
            self.faults.append("output: no folder is named, here or by --output")
        self.common = self.resources_of(self.content.get("resources"), "resources")
        self.scenes = self._scenes()
        self.after = () if self.scenes is None else (self.scenes.name,)

    def stages(self) -> Iterator[Stage]:
        if self.scenes is not None:
            yield self.scenes
        made = self._pretrain()
        yield from made
        tuned = list(self._finetune(made))
        yield from tuned
        if tuned:
            yield self._report(tuned)
        if not made and not tuned and not self.faults:
            self.faults.append("nothing to do: neither pretrain nor finetune is there")

    def measured(self, stages: Sequence[Stage]) -> Measured | None:
        """Return what the file says of the time that its parts took elsewhere."""
        if "measured" not in self.content:
            return None
        section = self.mapping(self.content["measured"], "measured", KEYS["measured"])
        machine = self.value(section, "machine", "measured.machine", str, "another machine")
        found = self.mapping(section.get("minutes", {}), "measured.minutes", None)
        parts = list(dict.fromkeys(stage.name.split("/")[0] for stage in stages))
        good = [isinstance(value, int | float) and value > 0 for value in found.values()]
        if not self.faults and (set(found) != set(parts) or not all(good)):  # after a fault stages are missing
            self.faults.append(
                f"measured.minutes: must be numbers above 0 for {', '.join(parts)}; or leave `measured` out"
            )
            return None
        return Measured(machine, found)

    def _scenes(self) -> Stage | None:
        if "scenes" not in self.content:
            return None
        section = self.mapping(self.content["scenes"], "scenes", KEYS["scenes"])
        folder = str(self.output / "scenes")
        counts = {name: self.value(section, name, f"scenes.{name}", int, 0, least=2) for name in KEYS["scenes"][:3]}
        missing = [name for name in counts if section.get(name) is None]
        if missing:
            self.faults.append(f"scenes: give the number of images, {', '.join(f'{name}: N' for name in missing)}")
        seed = self.value(section, "seed", "scenes.seed", int, 0)
        options = ScenesOptions(folder, **counts, seed=seed if self.seed is None else self.seed)
        asked = _one_process(self.resources(section, "scenes"))
        return Stage("scenes", options, folder, str(Path(folder) / "scenes.json"), asked)

    def _pretrain(self) -> list[Stage]:
        if "pretrain" not in self.content:
            return []
        section = self.mapping(self.content["pretrain"], "pretrain", KEYS["pretrain"])
        asked = self.resources(section, "pretrain")
        folder = str(self.output / "pretrain")
        settings = self.settings(section, "pretrain", "output_dir")
        if self.scenes is not None and "data.root" not in settings[::2]:
            settings += ["data.root", str(Path(self.scenes.folder) / "unlabelled")]
        if self.seed is not None:
            settings += ["seed", str(self.seed)]
        settings += ["output_dir", folder]
        file = self.config(section, "pretrain", "pretrain.config")
        stage = self.built("pretrain", lambda: pretraining("pretrain", file, settings, asked, self.after))
        convert = self._convert(stage.result if stage else "")
        return [stage, convert] if stage else []

    def _convert(self, source: str) -> Stage:
        section = self.mapping(self.content.get("convert", {}), "convert", KEYS["convert"])
        encoder = self.value(section, "encoder", "convert.encoder", str, "query")
        if encoder not in ("query", "key"):
            self.faults.append(f"convert.encoder: is {encoder!r}, must be query or key")
        folder = self.output / "convert"
        result = str(folder / "backbone.pth")
        asked = _one_process(self.resources(section, "convert"))
        options = ConvertOptions(source, result, encoder)
        return Stage("convert", options, str(folder), result, asked, ("pretrain",))

    def _finetune(self, made: list[Stage]) -> Iterator[Stage]:
        if "finetune" not in self.content:
            return
        section = self.mapping(self.content["finetune"], "finetune", KEYS["finetune"])
        starts = self.named(section, "starts", "finetune")
        tasks = self.named(section, "tasks", "finetune")
        if PRETRAINED in starts.values() and "pretrain" not in self.content:
            self.faults.append(f"finetune.starts: {PRETRAINED} needs a section pretrain")
        for task, content in tasks.items():
            own = self.mapping(content, f"finetune.tasks.{task}", KEYS["finetune.tasks"])
            for part in self._label_parts({**section, **own}, f"finetune.tasks.{task}"):
                for start, init in starts.items():
                    yield from self._trials(task, start, init, section, {**own, "labels": part}, made)

    def _label_parts(self, both: dict[str, Any], where: str) -> list[str | None]:
        """Return each part of the labels that the starts are fine-tuned with; [None] for all labels."""
        given = both.get("labels")
        if given is None:
            return [None]
        parts: list[Any] = given if isinstance(given, list) else [given]
        if not parts or (wrong := [part for part in parts if not isinstance(part, str)]):
            self.faults.append(
                f"{where}.labels: is {wrong[0] if parts else parts!r}; expected: {labels.FORMS}, or a list of these"
            )
            return []
        names = [self.built(f"{where}.labels", functools.partial(labels.folder_name, part)) for part in parts]
        if twice := [part for part, name in zip(parts, names, strict=True) if name and names.count(name) > 1]:
            self.faults.append(f"{where}.labels: would share a folder: {', '.join(twice)}")
        return [part for part, name in zip(parts, names, strict=True) if name]

    def _trials(
        self, task: str, start: str, init: Any, section: dict[str, Any], own: dict[str, Any], made: list[Stage]
    ) -> Iterator[Stage]:
        where = f"finetune.tasks.{task}"
        both = {**section, **own}
        part: str | None = both["labels"]
        place = f"{task}/{labels.folder_name(part)}/{start}" if part else f"{task}/{start}"
        trials = self.value(both, "trials", f"{where}.trials", int, 1, least=1)
        parallel = self.value(both, "parallel", f"{where}.parallel", int, None, least=1)
        seed = self.value(both, "seed", "finetune.seed", int, 0)
        config_file = self.config(own, "transfer", f"{where}.config")
        if config_file is None:
            if own.get("config") is None:
                self.faults.append(f"{where}.config: no YAML of configs/transfer/ is named")
            return
        asked = self.resources(section, "finetune", own, where)
        pretrained = init == PRETRAINED
        after = (made[-1].name,) if pretrained and made else self.after
        overrides = (*self.settings(own, where, "OUTPUT_DIR"), "OUTPUT_DIR", str(self.output / place))

        def checked() -> tuple[RunOptions, Path]:
            run = RunOptions(
                config_file=Path(config_file),
                overrides=overrides,
                init=made[-1].result if pretrained and made else expand_home(str(init)),
                seed=seed if self.seed is None else TRIAL_SEEDS * self.seed,
                **self._run_options(both, where, init),
            )
            return run, check_fine_tuning(run)

        found = self.built(f"{where}, start {start}", checked)
        if found is None:
            return
        run, output = found
        for trial in range(trials):
            name = f"{place}/trial_{trial}"
            yield fine_tuning(name, run, output, asked, trial, after=after, array=place, parallel=parallel)

    def _run_options(self, both: dict[str, Any], where: str, init: Any) -> dict[str, Any]:
        """Return the options of a fine-tuning run that a section gives, as RunOptions names them."""
        root = self.path(both, "dataset_root", f"{where}.dataset_root")
        data = self.path(both, "data", f"{where}.data")
        if root is None and self.scenes is not None and not {"data", "train", "test"} & both.keys():
            root = self.scenes.folder
        labels_seed = self.value(both, "labels_seed", f"{where}.labels_seed", int, None)
        if self.seed is not None and both["labels"] and labels.parse_labels(both["labels"]).path is None:
            labels_seed = self.seed
        engine = self.value(both, "engine", f"{where}.engine", str, "auto")
        if engine not in engines.NAMES:
            self.faults.append(f"{where}.engine: is {engine!r}, must be one of {', '.join(engines.NAMES)}")
            engine = "auto"
        rules = self.mapping(both.get("data_rules", {}), f"{where}.data_rules", None)
        options = {
            "dataset_root": root and Path(root),
            "data": data and Path(data),
            "train": self.words(both, "train", f"{where}.train"),
            "test": self.words(both, "test", f"{where}.test"),
            "classes": self.value(both, "classes", f"{where}.classes", str, None),
            "labels": both["labels"] and expand_home(both["labels"]),
            "labels_seed": labels_seed,
            "engine": engine,
            "scale_to": self.value(both, "scale_to", f"{where}.scale_to", int, None, least=1),
            "data_rules": faults.parse_rules([f"{kind}={rule}" for kind, rule in rules.items()]),
            **{name: self.value(both, name, f"{where}.{name}", str, None) for name in ("wandb", "mlflow")},
        }
        if init == "supervised":
            file = self.path(both, "supervised_weights", "finetune.supervised_weights")
            options |= {"supervised_weights": Path(file)} if file else {"download": True}
        return options

    def _report(self, tuned: list[Stage]) -> Stage:
        section = self.mapping(self.content.get("report", {}), "report", KEYS["report"])
        folder = self.output / "report"
        title = self.value(self.content, "title", "title", str, None)
        tasks = dict.fromkeys(str(self.output / stage.name.split("/")[0]) for stage in tuned)
        images, resamples = (
            self.value(section, key, f"report.{key}", int, None, least=0) for key in ("images", "resamples")
        )
        options = ReportOptions(tuple(tasks), str(folder), images, resamples, title or None)
        asked = _one_process(self.resources(section, "report"))
        after = tuple(stage.name for stage in tuned)
        return Stage("report", options, str(folder), str(folder / PAGE), asked, after)


def _one_process(asked: Resources) -> Resources:
    """Return the resources for a tool that is one process on one machine and needs no GPU."""
    return dataclasses.replace(asked, nodes=None, gpus=None, processes=None)
