"""The settings that an unknown key may have meant."""

import difflib
from collections.abc import Sequence

# What other programs call a setting, the published code among them.
_ELSEWHERE = {
    **dict.fromkeys(("learning_rate", "base_lr"), "optim.lr"),
    **dict.fromkeys(("ims_per_batch", "batch", "b"), "optim.batch_size"),
    **{"wd": "optim.weight_decay", "moco_k": "model.queue_size", "moco_m": "model.momentum"},
    **{"moco_t": "model.temperature", "moco_dim": "model.dim", "num_workers": "data.workers", "j": "data.workers"},
}


def nearest_settings(key: str, known: Sequence[str]) -> list[str]:
    """Return up to three of the known keys that are most like a key; those with its last part come first.

    Where none is like it, return all keys of its section; none where there is no such section.
    """
    last = key.rpartition(".")[2]
    elsewhere = [each for each in known if each.rpartition(".")[2] == last]
    other = last.lower().replace("-", "_")
    elsewhere += [_ELSEWHERE[other]] if other in _ELSEWHERE else [other] if other in known else []
    similar = difflib.get_close_matches(key, known, n=3, cutoff=0.5)
    section = f"{key.partition('.')[0]}."
    below = [each for each in known if each.startswith(section)]
    return list(dict.fromkeys(elsewhere + similar))[:3] or below
