"""The Python of a node: `python -m launcher.health.python` prints, as JSON, what it imports and which GPUs torch sees.

The versions of what is missing are null; an import that fails says why.
"""

import importlib
import json
import platform
import sys
import time
from typing import Any


def describe() -> dict[str, Any]:
    """Return versions, the GPUs that torch sees, and what cannot be imported."""
    began = time.monotonic()
    found: dict[str, Any] = {"python": platform.python_version(), "executable": sys.executable, "faults": []}
    for name in ("torch", "torchvision", "pretrain.train"):
        try:
            module = importlib.import_module(name)
        except Exception as error:  # a library that cannot be loaded raises anything
            found["faults"].append(f"{name} cannot be imported: {type(error).__name__}: {error}")
            continue
        found[name] = getattr(module, "__version__", None) or getattr(module, "__file__", None)
    if "torch" in found:
        found |= _gpus()
    found["seconds"] = time.monotonic() - began
    return found


def _gpus() -> dict[str, Any]:
    import torch

    count = torch.cuda.device_count()
    names = [torch.cuda.get_device_name(number) for number in range(count)] if torch.cuda.is_available() else []
    why = ""
    if not names and torch.version.cuda:
        try:
            torch.cuda.init()
        except (RuntimeError, AssertionError) as error:
            why = str(error).splitlines()[0]
    return {"cuda": torch.version.cuda, "gpus": names, "why": why}


if __name__ == "__main__":
    print(json.dumps(describe()))
