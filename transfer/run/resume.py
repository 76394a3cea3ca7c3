"""Going on with a run: how far the one in a folder has come, and whether it is the one that is asked for."""

import json
from pathlib import Path
from typing import Any

from pretrain.runtime import files
from transfer import results


def is_finished(output: Path) -> bool:
    """Whether the folder has a run's result."""
    return (output / results.FILE_NAME).exists()


def has_checkpoint(output: Path) -> bool:
    """Whether the run in the folder can go on. One that was killed before its first checkpoint begins anew."""
    return (output / files.LAST).exists()


def seed_begun_with(output: Path) -> int | None:
    """The seed that the run in the folder recorded when it began; None where it is not known."""
    seed = _record(output).get("seed")
    return seed if isinstance(seed, int) else None


def differences(output: Path, config: Any, engine: str, init: results.Init) -> list[str]:
    """What keeps the run in the folder from being the one with this configuration, engine and start; a message each."""
    ours = {"seed": config.SEED, "engine": engine, "configuration": results.config_hash(config)[:8]}
    path, theirs, start = _finished(output) if is_finished(output) else _begun(output)
    pairs = {what: (theirs[what], ours[what]) for what in theirs if theirs[what] != ours[what]}
    if start and (start.sha256 or start.label) != (init.sha256 or init.label):
        pairs["start"] = (_start(start), _start(init))
    return [
        f"{path}: its {what} is {known}, this command's {asked_for}: name another OUTPUT_DIR"
        for what, (known, asked_for) in pairs.items()
    ]


def _finished(output: Path) -> tuple[Path, dict[str, Any], results.Init]:
    path = output / results.FILE_NAME
    found = results.read(path)
    known = {"seed": found.seed, "engine": found.engine.name, "configuration": found.task.config_sha256[:8]}
    return path, known, found.init


def _begun(output: Path) -> tuple[Path, dict[str, Any], results.Init | None]:
    """What env.json tells; the checkpoint itself tells of another engine or model."""
    record = _record(output)
    known = {"seed": record["seed"]} if "seed" in record else {}
    try:
        return output / "env.json", known, results.Init(**record["init"])
    except (KeyError, TypeError):
        return output / "env.json", known, None


def _record(output: Path) -> dict[str, Any]:
    try:
        record = json.loads((output / "env.json").read_text())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _start(init: results.Init) -> str:
    return f"{init.label} ({init.sha256[:8]})" if init.sha256 else init.label
