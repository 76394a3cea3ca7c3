"""The pretraining methods by the name that the setting `model.mechanism` has for them.

A new method is a module with a subclass of `Method` and a line here. Code outside the library registers one with
`METHODS["name"] = Class` before the settings are read.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, MutableMapping
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:  # reading the settings needs no torch, which takes seconds to import
    from pretrain.models.method import Method


class Methods(MutableMapping[str, "type[Method]"]):
    """A mapping of names to classes, which imports the module of a built-in method when the class is asked for.

    Args:
        built_in: (module, class) by name. These methods have no `section` of settings.
    """

    def __init__(self, built_in: dict[str, tuple[str, str]]) -> None:
        self._places = dict(built_in)
        self._classes: dict[str, type[Method]] = {}

    def __getitem__(self, name: str) -> type[Method]:
        if name not in self._classes:
            module, method = self._places[name]
            self._classes[name] = cast("type[Method]", getattr(importlib.import_module(module), method))
        return self._classes[name]

    def __setitem__(self, name: str, method: type[Method]) -> None:
        self._classes[name] = method

    def __delitem__(self, name: str) -> None:
        del self._classes[name]

    def __contains__(self, name: object) -> bool:  # that of the base class would import the method
        return name in self._places or name in self._classes

    def __iter__(self) -> Iterator[str]:
        return iter({**self._places, **self._classes})

    def __len__(self) -> int:
        return len({**self._places, **self._classes})

    def sections(self) -> dict[str, type]:
        """Return the sections of settings that registered methods add, by the method's name."""
        return {name: method.section for name, method in self._classes.items() if method.section}


METHODS = Methods(
    {
        "moco": ("pretrain.models.moco", "MoCo"),
        "end_to_end": ("pretrain.models.end_to_end", "EndToEnd"),
        "memory_bank": ("pretrain.models.memory_bank", "MemoryBank"),
        "supervised": ("pretrain.models.supervised", "Supervised"),
    }
)
