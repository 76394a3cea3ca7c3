"""The pretraining methods by the name that the setting `model.mechanism` has for them.

A new method is a module with a subclass of `Method` and a line here. Code outside the library registers one with
`METHODS["name"] = Class` before the settings are read.
"""

from pretrain.models.end_to_end import EndToEnd
from pretrain.models.memory_bank import MemoryBank
from pretrain.models.method import Method
from pretrain.models.moco import MoCo
from pretrain.models.supervised import Supervised

METHODS: dict[str, type[Method]] = {
    "moco": MoCo,
    "end_to_end": EndToEnd,
    "memory_bank": MemoryBank,
    "supervised": Supervised,
}
