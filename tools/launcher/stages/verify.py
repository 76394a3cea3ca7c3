"""Whether a stage's result is there: whole, and what this stage would have made."""

from pathlib import Path

from pretrain import plan
from pretrain.checkpoints import saver
from pretrain.config import schema
from pretrain.runtime.errors import UserError
from transfer import engines, results
from transfer.errors import TransferError
from transfer.run import arguments as finetune_arguments
from transfer.weights import backbone_file
from transfer.weights import detector_file as weight_files

from .stage import Stage


def verify(stage: Stage) -> bool:
    """Whether the stage has finished, and its result is good.

    Raises:
        TransferError: the result is there, but damaged, or another stage's: other settings, another start.
    """
    if not Path(stage.result).exists():
        return False
    if stage.kind == "pretrain" and not saver.manifest_path(Path(stage.result)).exists():
        return False  # killed while it saved for the last time: it does so again
    try:
        faults = {
            "pretrain": _pretraining,
            "convert": _conversion,
            "finetune": _fine_tuning,
            "report": lambda _: [],
        }[stage.kind](stage)
    except UserError as error:
        faults = [str(error)]
    if faults:
        raise TransferError(
            "\n".join(f"{stage.name}: {fault}; move it away, or name another output" for fault in faults)
        )
    return stage.kind != "report" or _is_newer_than_runs(stage)


def _pretraining(stage: Stage) -> list[str]:
    newest, _ = saver.newest_good(Path(stage.folder))
    if newest.name != Path(stage.result).name:
        return [f"{stage.result} is damaged (the newest that is good: {newest.name})"]
    asked = schema.flat(schema.load(stage.config, _settings(stage)))
    was = schema.flat(schema.load(Path(stage.folder) / "config.yaml"))
    other = [key for key, value in asked.items() if key not in plan.FREE and value != was.get(key)]
    return [f"{stage.folder} holds a run with another {', '.join(other)}"] if other else []


def _settings(stage: Stage) -> list[str]:
    return [word for word in stage.arguments if not word.startswith("--")]


def _conversion(stage: Stage) -> list[str]:
    backbone = backbone_file.load(Path(stage.result))
    source = Path(stage.arguments[0])
    if source.exists() and backbone.metadata.get("source_sha256") != weight_files.sha256(source):
        return [f"{stage.result} was made of another file than {source}"]
    return []


def _fine_tuning(stage: Stage) -> list[str]:
    found = results.read(Path(stage.result))
    asked = finetune_arguments.parser().parse_intermixed_args(["--config-file", str(stage.config), *stage.arguments])
    trial = asked.trial or 0
    faults = []
    if asked.seed is not None and found.seed != asked.seed + trial:
        faults.append(f"{stage.result} is of seed {found.seed}, not {asked.seed + trial}")
    if asked.engine != "auto" and found.engine.name != engines.load(asked.engine).NAME:
        faults.append(f"{stage.result} is of the engine {found.engine.name}, not {asked.engine}")
    start = Path(asked.init) if asked.init not in ("random", "supervised", None) else None
    if start is not None and start.exists() and found.init.sha256 != weight_files.sha256(start):
        faults.append(f"{stage.result} started from another file than {start} is now")
    if asked.init in ("random", "supervised") and found.init.kind != asked.init:
        faults.append(f"{stage.result} started from {found.init.label}, not {asked.init}")
    return faults


def _is_newer_than_runs(stage: Stage) -> bool:
    """A report is made anew once a run below the folders that it tells of has ended after it."""
    folders = stage.arguments[: stage.arguments.index("--output")]
    made = Path(stage.result).stat().st_mtime
    return all(path.stat().st_mtime <= made for folder in folders for path in Path(folder).rglob(results.FILE_NAME))
