"""The check of a stage's result: it is there, whole, and what this stage would have made.

What reads tensors, and imports torch for it, is imported once there is a result to read.
"""

import json
from pathlib import Path

from pretrain.config import config_io
from pretrain.runtime.errors import UserError
from pretrain.runtime.files import file_sha256
from transfer import engines, results

from ..cluster.errors import LaunchError
from .options import ConvertOptions, FinetuneOptions, PretrainOptions, ReportOptions, ScenesOptions
from .stage import Stage


def verify(stage: Stage) -> bool:
    """Return whether the stage has finished with a good result.

    Raises:
        LaunchError: the result is there, but damaged, or another stage's: other settings, other initial weights.
    """
    if not Path(stage.result).exists():
        return False
    from pretrain.checkpoints import saver

    if stage.kind == "pretrain" and not saver.manifest_path(Path(stage.result)).exists():
        return False  # killed while it saved for the last time: it does so again
    try:
        faults = _faults(stage)
    except UserError as error:
        faults = [str(error)]
    if faults:
        raise LaunchError("\n".join(f"{stage.name}: {fault}; move it away, or name another output" for fault in faults))
    return not isinstance(stage.options, ReportOptions) or _is_newer_than_runs(stage, stage.options)


def _faults(stage: Stage) -> list[str]:
    match stage.options:
        case ScenesOptions():
            return _scenes_faults(stage, stage.options)
        case PretrainOptions():
            return _pretraining_faults(stage, stage.options)
        case ConvertOptions():
            return _conversion_faults(stage, stage.options)
        case FinetuneOptions():
            return _fine_tuning_faults(stage, stage.options)
        case ReportOptions():
            return []


def _scenes_faults(stage: Stage, options: ScenesOptions) -> list[str]:
    try:
        used = json.loads(Path(stage.result).read_text())
    except (OSError, ValueError) as error:
        return [f"{stage.result} cannot be read: {error}"]
    requested = {name: value for name, value in vars(options).items() if name != "output"}
    other = [f"{name} {used.get(name)}, not {value}" for name, value in requested.items() if used.get(name) != value]
    return [f"{stage.folder} holds scenes of {', '.join(other)}"] if other else []


def _pretraining_faults(stage: Stage, options: PretrainOptions) -> list[str]:
    from pretrain import resuming
    from pretrain.checkpoints import saver

    newest, _ = saver.newest_good(Path(stage.folder))
    if newest.name != Path(stage.result).name:
        return [f"{stage.result} is damaged (the newest that is good: {newest.name})"]
    settings = [word for setting in options.settings for word in setting]
    requested = config_io.flat(config_io.load(options.config_file, settings))
    used = config_io.flat(config_io.load(Path(stage.folder) / "config.yaml"))
    other = [key for key, value in requested.items() if key not in resuming.FREE and value != used.get(key)]
    return [f"{stage.folder} holds a run with another {', '.join(other)}"] if other else []


def _conversion_faults(stage: Stage, options: ConvertOptions) -> list[str]:
    from transfer.weights import backbone_file

    backbone = backbone_file.read_backbone(Path(stage.result))
    checkpoint = Path(options.checkpoint)
    if checkpoint.exists() and backbone.metadata.get("source_sha256") != file_sha256(checkpoint):
        return [f"{stage.result} was made of another file than {checkpoint}"]
    return []


def _fine_tuning_faults(stage: Stage, options: FinetuneOptions) -> list[str]:
    result, run = results.read_result(Path(stage.result)), options.run
    faults = []
    if run.seed is not None and result.seed != run.seed + (run.trial or 0):
        faults.append(f"{stage.result} is of seed {result.seed}, not {run.seed + (run.trial or 0)}")
    if run.engine != "auto" and result.engine.name != engines.load_engine(run.engine).NAME:
        faults.append(f"{stage.result} is of the engine {result.engine.name}, not {run.engine}")
    wanted, used = (run.labels or "all images").strip(), result.task.labels
    if wanted != (used.asked if used else "all images"):
        faults.append(f"{stage.result} was trained on {used.asked if used else 'all images'}, not --labels {wanted}")
    elif used and used.seed is not None and used.seed != (run.labels_seed or 0):
        faults.append(f"{stage.result} is of the draw seed {used.seed}, not --labels-seed {run.labels_seed or 0}")
    file = Path(run.init) if run.init not in ("random", "supervised", None) else None
    if file is not None and file.exists() and result.init.sha256 != file_sha256(file):
        faults.append(f"{stage.result} started from another file than {file} is now")
    if run.init in ("random", "supervised") and result.init.kind != run.init:
        faults.append(f"{stage.result} started from {result.init.label}, not {run.init}")
    return faults


def _is_newer_than_runs(stage: Stage, options: ReportOptions) -> bool:
    """Return whether no run below the report's folders has ended after it was made."""
    made = Path(stage.result).stat().st_mtime
    return all(
        path.stat().st_mtime <= made for folder in options.folders for path in Path(folder).rglob(results.FILE_NAME)
    )
