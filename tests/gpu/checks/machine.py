"""The machine: what stands with every number of the log."""

import importlib.util
import json
from typing import Any

import torch

from pretrain.runtime import distributed, provenance
from pretrain.runtime.ranks.cores import usable_cores
from tests.gpu.case import Case

OPTIONAL = ("detectron2", "triton", "timm", "hotcoco")


def check(case: Case) -> None:
    """Note the card, the versions, and what is not installed."""

    def describe() -> dict[str, Any]:
        found = provenance.describe_environment(distributed.select_device(case.device), seed=0)
        name, memory = "a CPU", 0
        if case.on_gpu:
            properties = torch.cuda.get_device_properties(0)
            name, memory = properties.name, properties.total_memory
        missing = [package for package in OPTIONAL if importlib.util.find_spec(package) is None]
        said = f"{name}, {memory / 2**30:.0f} GiB" if memory else f"{name}: everything is tiny"
        said += f"; {usable_cores()} cores, torch {torch.__version__}, CUDA {torch.version.cuda}"
        said += f"; not installed: {', '.join(missing)}" if missing else ""
        return {"said": said, "card": name, "memory_bytes": memory, "environment": json.loads(json.dumps(found))}

    case.do("environment", describe)
