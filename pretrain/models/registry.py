"""The methods by name, as `model.mechanism` of the settings chooses one.

A new method is a module with a subclass of `Method` and a line here. Code outside this package may add its own with
`METHODS["name"] = Class` before the settings are read.
"""

from __future__ import annotations

import pkgutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # reading the settings needs no torch, which takes seconds to import
    from pretrain.models.method import Method

# A class, or where it is defined; those that are named add no section of settings.
METHODS: dict[str, str | type[Method]] = {
    "moco": "pretrain.models.moco:MoCo",
    "end_to_end": "pretrain.models.end_to_end:EndToEnd",
    "memory_bank": "pretrain.models.memory_bank:MemoryBank",
    "supervised": "pretrain.models.supervised:Supervised",
}


def find_method(name: str) -> type[Method]:
    """Return the class of a method, whose module is imported when it is first asked for. Raises KeyError."""
    found = METHODS[name]
    method: type[Method] = pkgutil.resolve_name(found) if isinstance(found, str) else found
    return method
