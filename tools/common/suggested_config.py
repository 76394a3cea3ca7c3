"""The file that `train_moco.py --suggest` prints: a suggestion as YAML, with the reason for each number beside it."""

import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from pretrain.config import config_io, schema
from pretrain.config.machine import Machine, named_machine
from pretrain.config.suggestion import Choice, Suggestion, suggest
from pretrain.data.images.decode import opened_bytes
from pretrain.data.images.image_set import ImageSet, open_images
from pretrain.runtime.errors import PretrainError, UserError, printable
from pretrain.runtime.files import save_text
from pretrain.runtime.image_file import sampled, upright_size
from pretrain.runtime.invocation.naming import as_called
from pretrain.runtime.ranks import environment


def print_suggestion(
    machine_name: str, overrides: Sequence[str], path: Path | None, variables: Mapping[str, str]
) -> None:
    """Print the suggestion for the images of `data.root` on a machine, and write it to a file that is not there yet.

    Args:
        machine_name: as in `named_machine`.
        overrides: KEY VALUE words of the command line, which the rules follow.
        path: of the file; None: printed only.
        variables: the environment, in which a launcher says how many processes there are.

    Raises UserError for bad settings, images that are not there, a file that is, and more processes than one.
    """
    if environment.read_world(variables) is not None:
        raise PretrainError("--suggest: is for one process; start it without torchrun or srun")
    if path is not None and (path.exists() or path.is_symlink()):
        raise PretrainError(f"--save: {path}: is there already and is not overwritten; choose another name")
    settings = config_io.load(None, overrides)
    if settings.model.mechanism != "moco":
        raise PretrainError(f"--suggest: the rules are those of model.mechanism moco, not {settings.model.mechanism}")
    values = config_io.flat(settings)
    machine, images = named_machine(machine_name), open_images(settings.data.root)
    found = suggest(len(images), _median_shorter_side(images), machine, {key: values[key] for key in overrides[::2]})
    text = _to_yaml(found, len(images), machine, path)
    for notice in images.notices:
        print(f"warning: {notice}", file=sys.stderr)
    if path is not None:
        save_text(path, text)
    print(text, end="")


def _median_shorter_side(images: ImageSet) -> int | None:
    """Return the shorter side of the median image of a sample, in pixels; None where none of them can be read."""
    sides = []
    for index in sampled(len(images)):
        try:
            with opened_bytes(images.read_bytes(index)) as image:
                sides.append(min(upright_size(image)))
        except (UserError, ValueError):  # training counts the broken images
            continue
    return round(statistics.median(sides)) if sides else None


def _to_yaml(found: Suggestion, images: int, machine: Machine, path: Path | None) -> str:
    """Return the lines of the file: what to expect as comments, then one section after the other."""
    file = printable(str(path)) if path else "THIS_FILE"
    lines = [
        f"# Suggested by tools/train_moco.py --suggest for {images} images on {machine} (docs/guides/recipes.md).",
        "#",
        f"#   python tools/train_moco.py --config-file {file}",
        "#",
        *(f"# {sentence}" for sentence in found.expected),
    ]
    for section in (*schema.SECTIONS, ""):
        chosen = [choice for choice in found.choices if choice.key.rpartition(".")[0] == section]
        lines += [f"{section}:"] if section and chosen else []
        lines += [f"{'  ' * bool(section)}{_setting(choice)} # {choice.reason}" for choice in chosen]
    return as_called("\n".join(lines) + "\n")


def _setting(choice: Choice) -> str:
    """Return `name: value` in one line of YAML."""
    pair: dict[str, Any] = {choice.key.rpartition(".")[2]: choice.value}
    return yaml.safe_dump(pair, default_flow_style=True, width=10**6, allow_unicode=True).strip()[1:-1]  # no braces
