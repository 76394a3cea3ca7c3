"""The typed options of each kind of stage, and the command line of its tool, to which they are rendered once."""

import dataclasses
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from transfer.run.options import RunOptions

_Own = TypeVar("_Own", bound="_WithoutConfig")


class _WithoutConfig:
    """The options of a tool that has no --config-file and reads only what other stages make."""

    config_file: ClassVar[None] = None

    def inputs(self) -> dict[str, str]:
        """Return nothing: no folder of the user's is read."""
        return {}

    @classmethod
    def from_json(cls: type[_Own], content: Mapping[str, Any]) -> _Own:
        """Return the options of a record."""
        return cls(**content)


@dataclass(frozen=True)
class ScenesOptions(_WithoutConfig):
    """The options of tools/make_scenes.py, which writes made-up images to pretrain on and to fine-tune on."""

    kind: ClassVar[str] = "scenes"
    tool: ClassVar[str] = "make_scenes.py"
    output: str
    unlabelled: int
    train: int
    test: int
    seed: int = 0

    def words(self) -> tuple[str, ...]:
        """Return the command line after the tool."""
        return tuple(word for name, value in vars(self).items() for word in (f"--{name}", str(value)))


@dataclass(frozen=True)
class PretrainOptions:
    """The options of tools/train_moco.py, which resumes by itself."""

    kind: ClassVar[str] = "pretrain"
    tool: ClassVar[str] = "train_moco.py"
    config_file: str | None
    settings: tuple[tuple[str, str], ...]  # (key, value) over the file

    def words(self) -> tuple[str, ...]:
        """Return the command line after the tool and its --config-file."""
        return (*itertools.chain.from_iterable(self.settings), "--auto-resume")

    def inputs(self) -> dict[str, str]:
        """Return the folders that are read, by the word that names them."""
        return {key: value for key, value in self.settings if key in ("data.root", "knn.root")}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "PretrainOptions":
        """Return the options of a record."""
        return cls(content["config_file"], tuple((key, value) for key, value in content["settings"]))


@dataclass(frozen=True)
class ConvertOptions(_WithoutConfig):
    """The options of tools/convert.py, from a checkpoint to a backbone for Detectron2."""

    kind: ClassVar[str] = "convert"
    tool: ClassVar[str] = "convert.py"
    checkpoint: str
    output: str
    encoder: str = "query"  # or "key"

    def words(self) -> tuple[str, ...]:
        """Return the command line after the tool."""
        return (self.checkpoint, self.output, "--to", "detectron2", "--encoder", self.encoder)


@dataclass(frozen=True)
class FinetuneOptions:
    """The options of tools/finetune.py, one run or one of its trials, which resumes by itself."""

    kind: ClassVar[str] = "finetune"
    tool: ClassVar[str] = "finetune.py"
    run: RunOptions

    @property
    def config_file(self) -> str:
        return str(self.run.config_file)

    def words(self) -> tuple[str, ...]:
        """Return the command line after the tool and its --config-file."""
        from transfer.run.arguments import words_from  # here, for it imports much: `launch.py status` renders nothing

        _, _, *words = words_from(self.run)
        return tuple(words)

    def inputs(self) -> dict[str, str]:
        """Return the folders that are read, by the word that names them."""
        paths = {"--dataset-root": self.run.dataset_root, "--data": self.run.data}
        return {flag: str(path) for flag, path in paths.items() if path is not None}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "FinetuneOptions":
        """Return the options of a record."""
        run = dict(content["run"])
        for name in ("config_file", "dataset_root", "data", "supervised_weights"):
            run[name] = None if run.get(name) is None else Path(run[name])
        for name in ("overrides", "train", "test"):
            run[name] = tuple(run.get(name, ()))
        return cls(RunOptions(**run))


@dataclass(frozen=True)
class ReportOptions(_WithoutConfig):
    """The options of tools/report.py, on all runs below some folders."""

    kind: ClassVar[str] = "report"
    tool: ClassVar[str] = "report.py"
    folders: tuple[str, ...]
    output: str
    images: int | None = None
    resamples: int | None = None
    title: str | None = None

    def words(self) -> tuple[str, ...]:
        """Return the command line after the tool."""
        words = [*self.folders, "--output", self.output, "--overwrite"]
        for flag, value in (("--images", self.images), ("--resamples", self.resamples), ("--title", self.title)):
            words += [] if value is None else [flag, str(value)]
        return tuple(words)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "ReportOptions":
        """Return the options of a record."""
        return cls(**{**content, "folders": tuple(content["folders"])})


Options = ScenesOptions | PretrainOptions | ConvertOptions | FinetuneOptions | ReportOptions
KINDS: dict[str, type[Options]] = {
    kind.kind: kind for kind in (ScenesOptions, PretrainOptions, ConvertOptions, FinetuneOptions, ReportOptions)
}


def with_config(options: Options, path: Path) -> Options:
    """Return the options with another YAML file of --config-file; those of a tool that takes none as they are."""
    match options:
        case PretrainOptions():
            return dataclasses.replace(options, config_file=str(path))
        case FinetuneOptions():
            return dataclasses.replace(options, run=dataclasses.replace(options.run, config_file=path))
    return options


def to_json(options: Options) -> dict[str, Any]:
    """Return the options as a record holds them."""
    return {name: _plain(value) for name, value in dataclasses.asdict(options).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    return str(value) if isinstance(value, Path) else value
