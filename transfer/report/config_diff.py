"""The settings in which runs differ from each other or from the recipe they are named after, told by subject."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from transfer import engines
from transfer.config import scale
from transfer.results import Scaled, task_settings

CONFIG_FILE = "config.yaml"  # the resolved configuration, in a run's folder
MOST_KEYS = 6  # of one subject, in one message
_RECIPES = Path(__file__).resolve().parents[2] / "configs/transfer"
# Subject -> how the names of its settings begin; a setting is of the last that fits.
_SUBJECTS = {
    "other settings": ("",),
    "schedule": ("SOLVER.",),
    "input": ("INPUT.", "DATASETS.", "DATALOADER."),
    "heads": ("MODEL.ROI_", "MODEL.RPN", "MODEL.RETINANET", "MODEL.PROPOSAL_GENERATOR", "MODEL.META_ARCHITECTURE"),
    "backbone": ("MODEL.BACKBONE", "MODEL.RESNETS", "MODEL.FPN", "MODEL.PIXEL_"),
}

Settings = Mapping[str, Any]  # full key -> value


def read(run_folder: Path) -> Settings | None:
    """The resolved configuration of a run, without what may differ between trials; None if it cannot be read."""
    try:
        return task_settings(yaml.safe_load((run_folder / CONFIG_FILE).read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, AttributeError):
        return None


def recipe(name: str, scaled: Scaled | None) -> Settings | None:
    """The resolved configuration of configs/transfer/`name`.yaml, as --scale-to makes it; None where there is none."""
    path = _RECIPES / f"{name}.yaml"
    if not path.is_file():
        return None
    config = engines.load("torchvision").load_config(path, []).clone()
    if scaled:
        config.defrost()
        scale.rescale(config, scaled.gpus)
    return task_settings(yaml.safe_load(config.dump()))


def differences(settings: Sequence[Settings], of_shared_keys: bool) -> str:
    """ "heads: KEY value | value; schedule: KEY value | value": each value once, in the order given; "" for none.

    Args:
        of_shared_keys: leave out a key that one of them lacks (another engine knows other keys), else it is "absent".
    """
    keys = dict.fromkeys(key for one in settings for key in one)
    if of_shared_keys:
        keys = dict.fromkeys(key for key in keys if all(key in one for one in settings))
    subjects: dict[str, list[str]] = defaultdict(list)
    for key in keys:
        values = list(dict.fromkeys(str(one.get(key, "absent")) for one in settings))
        if len(values) > 1:
            subjects[_subject(key)].append(f"{key} {' | '.join(value or repr(value) for value in values)}")
    return "; ".join(f"{subject}: {_shortened(differing)}" for subject, differing in subjects.items())


def _subject(key: str) -> str:
    return [subject for subject, beginnings in _SUBJECTS.items() if key.startswith(beginnings)][-1]


def _shortened(differing: Sequence[str]) -> str:
    more = f" and {len(differing) - MOST_KEYS} more" if len(differing) > MOST_KEYS else ""
    return ", ".join(differing[:MOST_KEYS]) + more
