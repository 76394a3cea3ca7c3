"""The upgrade of records of version 1, which held the command line of each stage in place of its options."""

import argparse
import os
from collections.abc import Callable, Sequence
from typing import Any

from .stages import options as stage_options
from .stages.options import ConvertOptions, FinetuneOptions, Options, PretrainOptions, ReportOptions

VERSION = 1


def upgrade(content: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a record of version 1 as one of version 2.

    The words of stages and of their submissions become what their options are rendered to today, so that they compare
    equal where they mean the same.

    Raises:
        ValueError, KeyError or TypeError: it is not a record of version 1.
    """
    return {**content, "stages": {name: _entry(entry) for name, entry in content["stages"].items()}}


def _entry(entry: dict[str, Any]) -> dict[str, Any]:
    stage = dict(entry["stage"])
    kind, config, words = stage["kind"], stage.pop("config"), stage.pop("arguments")
    del stage["tool"]
    stage["options"] = stage_options.to_json(_options(kind, config, words))
    submissions = [
        {**submission, "arguments": _options(kind, config, submission["arguments"]).words()}
        for submission in entry["submissions"]
    ]
    return {**entry, "stage": stage, "submissions": submissions}


def _options(kind: str, config: str | None, words: Sequence[str]) -> Options:
    readers: dict[str, Callable[[str | None, Sequence[str]], Options]] = {
        "pretrain": _pretrain_options,
        "convert": lambda _, words: _convert_options(words),
        "finetune": _finetune_options,
        "report": lambda _, words: _report_options(words),
    }
    try:
        return readers[kind](config, words)
    except SystemExit:  # argparse has said why
        raise ValueError(f"{kind}: {' '.join(words)}") from None


def _pretrain_options(config: str | None, words: Sequence[str]) -> PretrainOptions:
    settings = [word for word in words if word != "--auto-resume"]
    return PretrainOptions(config, tuple(zip(settings[::2], settings[1::2], strict=True)))


def _convert_options(words: Sequence[str]) -> ConvertOptions:
    parser = argparse.ArgumentParser()
    for name in ("checkpoint", "output", "--to", "--encoder"):
        parser.add_argument(name)
    found = parser.parse_args(words)
    return ConvertOptions(found.checkpoint, found.output, found.encoder or "query")


def _finetune_options(config: str | None, words: Sequence[str]) -> FinetuneOptions:
    from transfer.run import arguments as finetune_arguments  # here, for it imports much: most records are new

    found = finetune_arguments.parser().parse_intermixed_args(["--config-file", os.path.join(".", str(config)), *words])
    return FinetuneOptions(finetune_arguments.options_from(found))


def _report_options(words: Sequence[str]) -> ReportOptions:
    parser = argparse.ArgumentParser()
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--overwrite", action="store_true")
    for name, kind in (("--output", str), ("--images", int), ("--resamples", int), ("--title", str)):
        parser.add_argument(name, type=kind)
    found = parser.parse_args(words)
    return ReportOptions(tuple(found.folders), found.output, found.images, found.resamples, found.title)
