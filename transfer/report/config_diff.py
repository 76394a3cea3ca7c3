"""The settings in which runs differ from each other, or from the recipe they are named after, grouped by subject."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from pretrain.runtime.errors import listed
from transfer import engines
from transfer.config import resolve
from transfer.errors import TransferError
from transfer.results import Scaled, task_settings

CONFIG_FILE = "config.yaml"  # the resolved configuration, in a run's folder
MOST_KEYS = 6  # of one subject, in one message
RECIPES = Path(__file__).resolve().parents[2] / "configs/transfer"  # of a checkout; an installed package has none
# Subject -> the beginnings of its settings' names; a setting belongs to the last subject that fits.
_SUBJECTS = {
    "other settings": ("",),
    "schedule": ("SOLVER.",),
    "input": ("INPUT.", "DATASETS.", "DATALOADER."),
    "heads": ("MODEL.ROI_", "MODEL.RPN", "MODEL.RETINANET", "MODEL.PROPOSAL_GENERATOR", "MODEL.META_ARCHITECTURE"),
    "backbone": ("MODEL.BACKBONE", "MODEL.RESNETS", "MODEL.FPN", "MODEL.PIXEL_"),
}

Settings = Mapping[str, Any]  # full key -> value


def read_settings(run_folder: Path) -> Settings:
    """Read the resolved configuration of a run, without what may differ between trials.

    Raises:
        TransferError: the run's folder has no configuration that can be read.
    """
    path = run_folder / CONFIG_FILE
    try:
        return task_settings(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, AttributeError) as error:
        raise TransferError(f"{path} cannot be read ({type(error).__name__})") from error


def read_settings_if_there(run_folder: Path) -> Settings | None:
    """Read the resolved configuration of a run as `read_settings`; None where it cannot be read."""
    try:
        return read_settings(run_folder)
    except TransferError:
        return None


def read_recipe(name: str, scaled: Scaled | None) -> Settings:
    """Read the resolved configuration of configs/transfer/`name`.yaml, rescaled as --scale-to does it.

    Raises:
        TransferError: there is no such file, as in an installed package.
    """
    path = RECIPES / f"{name}.yaml"
    if not path.is_file():
        raise TransferError(f"{path} does not exist; an installed package has no recipes, a checkout has them")
    config = engines.load_engine("torchvision").load_config(path, [])
    if scaled:
        config, _ = resolve.with_scale(config, scaled.gpus)
    return task_settings(yaml.safe_load(config.dump()))


def describe_differences(settings: Sequence[Settings], of_shared_keys: bool) -> str:
    """Describe differing settings: "heads: KEY value | value; schedule: KEY value | value"; "" if there are none.

    Args:
        settings: of each side; their values are named in this order, each once.
        of_shared_keys: leave out a key that one side lacks (engines know different keys), else it is "absent".
    """
    keys = dict.fromkeys(key for one in settings for key in one)
    if of_shared_keys:
        keys = dict.fromkeys(key for key in keys if all(key in one for one in settings))
    subjects: dict[str, list[str]] = defaultdict(list)
    for key in keys:
        values = list(dict.fromkeys(str(one.get(key, "absent")) for one in settings))
        if len(values) > 1:
            subjects[_subject(key)].append(f"{key} {' | '.join(value or repr(value) for value in values)}")
    return "; ".join(f"{subject}: {listed(differing, MOST_KEYS)}" for subject, differing in subjects.items())


def _subject(key: str) -> str:
    return [subject for subject, beginnings in _SUBJECTS.items() if key.startswith(beginnings)][-1]
