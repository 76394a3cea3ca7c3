"""The whole job as functions, one for each stage: each runs a command as a process and returns what it has made."""

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from moco_transfer import results
from moco_transfer.child import run_command
from moco_transfer.progress import Progress

AnyPath: TypeAlias = str | os.PathLike[str]
Settings: TypeAlias = Mapping[str, Any]


def pretrain_backbone(
    images: AnyPath,
    output: AnyPath,
    config: AnyPath | None = None,
    settings: Settings | None = None,
    *,
    processes: int = 1,
    options: Sequence[str] = (),
    progress: Progress = True,
) -> results.Pretraining:
    """Pretrain MoCo on images without labels.

    The same call continues a run that was stopped, and returns the results of a finished one at once.

    Args:
        images: a folder, a list of paths, or tar shards: data.root.
        output: folder of the run: output_dir.
        config: a YAML file, or the name of one in configs/pretrain/, such as "moco_v2_r18_cpu"; None: MoCo v2's
            published settings.
        settings: over those of the file, by their full names: {"optim.epochs": 50, "model.queue_size": 1024}.
        processes: one for each GPU of this machine.
        options: further words of `moco-transfer pretrain`.
        progress: True shows what the run prints; False nothing; a function is called with each line.

    Raises:
        CommandError: bad input, with the message that the command prints; or the run was stopped (exit_code 75).
    """
    given = {"data.root": images, "output_dir": output, **(settings or {})}
    words = ["--auto-resume", *_flags({"--config-file": config}), *options, *_pairs(given)]
    run_command("pretrain", *words, progress=progress, processes=processes)
    return results.read_pretraining(_folder(given["output_dir"]))


def convert_backbone(
    checkpoint: AnyPath,
    output: AnyPath,
    to: str = "detectron2",
    *,
    encoder: str | None = None,
    label: str | None = None,
    overwrite: bool = False,
    options: Sequence[str] = (),
    progress: Progress = True,
) -> results.Backbone:
    """Convert a pretrained ResNet, and check that the result computes the same features.

    Args:
        checkpoint: of this project, MoCo v1, v2, v3, torchvision, timm, or another trainer.
        output: the file to write.
        to: "detectron2", which `finetune_detector` takes, "torchvision", "timm" or "safetensors".
        encoder: "query" or "key", of a checkpoint that holds both; None: query.
        label: the name of its rows in a report; None: the method's that trained it, where the file tells it.
        overwrite: replace `output` where it exists.
        options: further words of `moco-transfer convert`.
        progress: as for `pretrain_backbone`.

    Raises:
        CommandError: bad input, with the message that the command prints.
    """
    flags = _flags({"--to": to, "--encoder": encoder, "--label": label, "--overwrite": overwrite})
    with tempfile.TemporaryDirectory() as folder:
        account = Path(folder) / "account.json"
        words = [*flags, *options, "--json", str(account), os.fspath(checkpoint), os.fspath(output)]
        run_command("convert", *words, progress=progress)
        return results.read_conversion(account)


def finetune_detector(
    config: AnyPath,
    output: AnyPath,
    init: AnyPath,
    settings: Settings | None = None,
    *,
    dataset_root: AnyPath | None = None,
    train: AnyPath | Sequence[AnyPath] = (),
    test: AnyPath | Sequence[AnyPath] = (),
    labels: str | None = None,
    trials: int = 1,
    engine: str = "auto",
    processes: int = 1,
    options: Sequence[str] = (),
    progress: Progress = True,
) -> results.FineTuning:
    """Fine-tune a detector from a backbone and evaluate it, in one trial or several.

    The same call continues trials that were stopped, and does not repeat those that are finished.

    Args:
        config: a YAML file in Detectron2's vocabulary, or the name of one in configs/transfer/, such as
            "voc_r50_c4_24k".
        output: folder of the trials: OUTPUT_DIR.
        init: initial weights of the backbone: "random", "supervised" or a file of `convert_backbone`.
        settings: over those of the file, by Detectron2's names: {"SOLVER.MAX_ITER": 12000}.
        dataset_root: folder of the data sets that the configuration names.
        train: your own data to train on, in their place: paths or names, one or several.
        test: your own data to test on, likewise.
        labels: train on a part of the labelled images, such as "5%".
        trials: how many runs, with seeds from SEED (0 where none is set) up, in `output`/trial_0, ...
        engine: "detectron2", "torchvision", or "auto": Detectron2 where it is installed.
        processes: one for each GPU of this machine.
        options: further words of `moco-transfer finetune`.
        progress: as for `pretrain_backbone`.

    Raises:
        CommandError: bad input, with the message that the command prints; or the run was stopped (exit_code 75).
    """
    flags = {
        "--config-file": config,
        "--init": init,
        "--dataset-root": dataset_root,
        "--train": train,
        "--test": test,
        "--labels": labels,
        "--trials": trials,
        "--engine": engine,
        "--num-gpus": processes,
    }
    given = {"OUTPUT_DIR": output, **(settings or {})}
    run_command("finetune", *_flags(flags), *options, *_pairs(given), progress=progress)
    return results.read_fine_tuning(_folder(given["OUTPUT_DIR"]), trials)


def write_report(
    runs: AnyPath | Sequence[AnyPath],
    output: AnyPath,
    *,
    title: str | None = None,
    overwrite: bool = False,
    options: Sequence[str] = (),
    progress: Progress = True,
) -> results.Report:
    """Write the report of finished runs: one page, and its numbers and figures as files.

    Args:
        runs: folders of runs, or folders that hold some.
        output: folder to write to.
        title: heading of the page.
        overwrite: replace the report that `output` holds.
        options: further words of `moco-transfer report`.
        progress: as for `pretrain_backbone`.

    Raises:
        CommandError: bad input, with the message that the command prints.
    """
    flags = _flags({"--output": output, "--title": title, "--overwrite": overwrite})
    run_command("report", *flags, *options, *_each(runs), progress=progress)
    return results.read_report(_folder(output))


def _flags(values: Mapping[str, Any]) -> list[str]:
    """Return the words of flags: nothing for None and False, the flag alone for True, one pair for each of several."""
    words: list[str] = []
    for flag, value in values.items():
        if value is None or value is False:
            continue
        words += [flag] if value is True else [word for one in _each(value) for word in (flag, one)]
    return words


def _each(value: Any) -> list[str]:
    """Return one value or several as words."""
    values = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    return [_word(one) for one in values]


def _pairs(settings: Settings) -> list[str]:
    """Return KEY VALUE pairs."""
    return [word for key, value in settings.items() for word in (key, _word(value))]


def _word(value: Any) -> str:
    """Return a value as a word of the command line, which reads it as a Python literal."""
    return os.fspath(value) if isinstance(value, str | os.PathLike) else repr(value)


def _folder(path: AnyPath) -> Path:
    return Path(path).expanduser()
