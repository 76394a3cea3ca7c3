"""The earlier attempt of a run in its folder: how far it came, and if it is the run that is asked for."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from transfer import results
from transfer.config import detectron2_defaults
from transfer.run import data_record
from transfer.run.data_record import Records

# Settings that a later attempt may change: of the machine and of watching, not of what is learnt. Seed and initial
# weights are compared by themselves.
FREE = frozenset(
    (*results.NOT_THE_TASK, "CUDNN_BENCHMARK", "SOLVER.CHECKPOINT_PERIOD", "TEST.EVAL_PERIOD", "VIS_PERIOD")
)
ADVICE = "give the run what it began with, or name another OUTPUT_DIR for a new one"
_OPTIONS = {"SOLVER.REFERENCE_WORLD_SIZE": " (--scale-to)"}  # settings that an option of the command line changes

log = logging.getLogger(__name__)


def is_finished(output: Path) -> bool:
    """Return whether the folder has a run's result."""
    return (output / results.FILE_NAME).exists()


def recorded_seed(output: Path) -> int | None:
    """Return the seed that the run recorded when it began; None where it is not known."""
    seed = _read_record(output).get("seed")
    return seed if isinstance(seed, int) else None


def differences(output: Path, config: Any, engine: str, init: results.Init | None, data: Records) -> list[str]:
    """Compare the run in the folder with the one that is asked for; warn of what an older version did not record.

    Args:
        output: the folder.
        config: the resolved configuration of the run that is asked for.
        engine: its engine.
        init: its initial weights; None: neither they nor the seed are compared.
        data: its data.

    Returns:
        A message for each setting, rule and part of the data that differs, with both values.
    """
    if not is_finished(output) and not _read_record(output):
        return [
            f"{output}: holds checkpoints, but no readable env.json that says of which run: they are neither resumed "
            "nor begun over"
        ]
    ours: dict[str, Any] = {"engine": engine}
    path, theirs, their_init = _describe_result(output) if is_finished(output) else _describe_record(output)
    if init is not None:
        ours = {"seed": config.SEED, **ours}
    found = [f"{what}: begun with {theirs[what]}, now {ours[what]}" for what in ours if _differ(theirs, ours, what)]
    if init and their_init and (their_init.sha256 or their_init.label) != (init.sha256 or init.label):
        found.append(f"init: begun with {_describe_init(their_init)}, now {_describe_init(init)}")
    found += _setting_differences(output, config)
    begun = data_record.read_records(output)
    if begun is None:
        log.warning(
            "%s: no %s, the run was begun by an older version: nobody can tell if its data are these ones",
            output, data_record.FILE_NAME,
        )  # fmt: skip
    else:
        found += data_record.data_differences(begun, data)
    return [f"{path}: {difference}" for difference in found]


def _setting_differences(output: Path, config: Any) -> list[str]:
    """Compare config.yaml, the resolved configuration with which the run began, with `config`."""
    try:
        begun = yaml.safe_load((output / "config.yaml").read_text())
    except (OSError, ValueError, yaml.YAMLError):
        begun = None
    if not isinstance(begun, dict):
        return _hash_difference(output, config)
    before, now = _plain(begun), _plain(config)
    before = {**_plain(detectron2_defaults.get_cfg()), **before}  # one that the run began without counts as its default
    return [
        f"{key}{_OPTIONS.get(key, '')}: begun with {before[key]}, now {value}"
        for key, value in now.items()
        if key not in FREE and key in before and before[key] != value  # engines and projects have keys of their own
    ]


def _hash_difference(output: Path, config: Any) -> list[str]:
    """Compare the configurations of a folder without config.yaml, as far as that is possible."""
    if not is_finished(output):
        log.warning("%s: no readable config.yaml: nobody can tell if the run began with these settings", output)
        return []
    before, now = results.read_result(output / results.FILE_NAME).task.config_sha256, results.config_hash(config)
    return [] if before == now else [f"configuration: begun with {before[:8]}, now {now[:8]}"]


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return full name -> value, as JSON has it: a list and a tuple are the same."""
    return json.loads(json.dumps(results.task_settings(config), default=str))


def _differ(theirs: Mapping[str, Any], ours: Mapping[str, Any], what: str) -> bool:
    return what in theirs and theirs[what] != ours[what]


def _describe_result(output: Path) -> tuple[Path, dict[str, Any], results.Init]:
    path = output / results.FILE_NAME
    found = results.read_result(path)
    return path, {"seed": found.seed, "engine": found.engine.name}, found.init


def _describe_record(output: Path) -> tuple[Path, dict[str, Any], results.Init | None]:
    """Return what env.json says; of another engine or model the checkpoint itself says it when it is loaded."""
    record = _read_record(output)
    known: dict[str, Any] = {what: record[what] for what in ("seed", "engine") if what in record}
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
