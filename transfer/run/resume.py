"""The earlier attempt of a run in its folder: how far it came, and if it is the run that is asked for."""

import json
from pathlib import Path
from typing import Any

from pretrain.runtime import files
from transfer import results


def is_finished(output: Path) -> bool:
    """Return whether the folder has a run's result."""
    return (output / results.FILE_NAME).exists()


def has_checkpoint(output: Path) -> bool:
    """Return whether the run can be resumed. One that was killed before its first checkpoint begins anew."""
    return (output / files.LAST).exists()


def recorded_seed(output: Path) -> int | None:
    """Return the seed that the run recorded when it began; None where it is not known."""
    seed = _read_record(output).get("seed")
    return seed if isinstance(seed, int) else None


def differences(output: Path, config: Any, engine: str, init: results.Init) -> list[str]:
    """Compare the run in the folder with the one that is asked for.

    Args:
        output: the folder.
        config: the resolved configuration of the run that is asked for.
        engine: its engine.
        init: its initial weights.

    Returns:
        One message for each of seed, engine, configuration and initial weights that differs.
    """
    ours = {"seed": config.SEED, "engine": engine, "configuration": results.config_hash(config)[:8]}
    path, theirs, their_init = _describe_result(output) if is_finished(output) else _describe_record(output)
    pairs = {what: (theirs[what], ours[what]) for what in theirs if theirs[what] != ours[what]}
    if their_init and (their_init.sha256 or their_init.label) != (init.sha256 or init.label):
        pairs["init"] = (_describe_init(their_init), _describe_init(init))
    return [
        f"{path}: its {what} is {recorded}, this command's {asked_for}: name another OUTPUT_DIR"
        for what, (recorded, asked_for) in pairs.items()
    ]


def _describe_result(output: Path) -> tuple[Path, dict[str, Any], results.Init]:
    path = output / results.FILE_NAME
    found = results.read_result(path)
    known = {"seed": found.seed, "engine": found.engine.name, "configuration": found.task.config_sha256[:8]}
    return path, known, found.init


def _describe_record(output: Path) -> tuple[Path, dict[str, Any], results.Init | None]:
    """Return what env.json says; of another engine or model the checkpoint itself says it when it is loaded."""
    record = _read_record(output)
    known = {"seed": record["seed"]} if "seed" in record else {}
    try:
        return output / "env.json", known, results.Init(**record["init"])
    except (KeyError, TypeError):
        return output / "env.json", known, None


def _read_record(output: Path) -> dict[str, Any]:
    try:
        record = json.loads((output / "env.json").read_text())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _describe_init(init: results.Init) -> str:
    return f"{init.label} ({init.sha256[:8]})" if init.sha256 else init.label
