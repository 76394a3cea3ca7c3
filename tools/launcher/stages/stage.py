"""A job of a run: the typed options of a tool, what it needs, and what it leaves."""

import dataclasses
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..cluster.resources import Resources
from . import options as stage_options
from .options import Options


@dataclass(frozen=True)
class Stage:
    """A job that can be submitted. Paths are absolute, or relative to the folder that the user was in."""

    name: str  # its folder in the run: "pretrain", "voc/moco/trial_0"
    options: Options
    folder: str  # what it writes into
    result: str  # the file that is there once it has finished
    resources: Resources
    after: tuple[str, ...] = ()  # names of the stages whose results it needs
    array: str | None = None  # stages of one array are submitted together
    parallel: int | None = None  # how many of them may run at a time

    @property
    def kind(self) -> str:
        """The name of the kind: "scenes", "pretrain", "convert", "finetune" or "report"."""
        return self.options.kind

    @property
    def config(self) -> str | None:
        """The YAML file of --config-file."""
        return self.options.config_file

    @property
    def arguments(self) -> tuple[str, ...]:
        """The command line without --config-file."""
        return self.options.words()

    def with_config(self, path: Path) -> "Stage":
        """Return the stage with another YAML file of --config-file, if it has one."""
        return dataclasses.replace(self, options=stage_options.with_config(self.options, path))

    def to_json(self) -> dict[str, Any]:
        """Return the stage as a record holds it."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {
            **fields,
            "kind": self.kind,
            "options": stage_options.to_json(self.options),
            "resources": asdict(self.resources),
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Stage":
        """Return the stage of a record."""
        fields = {name: value for name, value in content.items() if name != "kind"}
        fields["options"] = stage_options.KINDS[content["kind"]].from_json(content["options"])
        fields["resources"] = Resources(**content["resources"])
        fields["after"] = tuple(content["after"])
        return cls(**fields)
