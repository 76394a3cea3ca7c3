"""A narrow ResNet-18 for every Python whose PYTHONPATH has this folder, as the jobs of the tests' runs have it.

It sleeps before each pass: a run that costs next to nothing still lasts until it is disturbed. Python imports this file
as it starts, also where no torch is needed: it waits until somebody imports torchvision's models.
"""

import sys
import time
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from runpy import run_path
from types import ModuleType
from typing import Any

SECONDS = 0.1  # before each pass, of which a step has two

_NETWORK = Path(__file__).resolve().parents[2] / "support" / "pretrain" / "narrow_resnet.py"


def _sleep(network: Any, images: Any) -> None:
    time.sleep(SECONDS)


def _build(**settings: Any) -> Any:
    network = run_path(str(_NETWORK))["build"](**settings)
    network.register_forward_pre_hook(_sleep)
    return network


class _Narrowing(MetaPathFinder):
    """Finds torchvision.models, and puts the narrow network into its registry once it has been imported."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name == "torchvision.models" else None
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_and_narrow(module: ModuleType) -> None:
            execute(module)
            module._api.BUILTIN_MODELS["resnet18"] = _build

        spec.loader.exec_module = execute_and_narrow  # type: ignore[method-assign]
        return spec


sys.meta_path.insert(0, _Narrowing())
