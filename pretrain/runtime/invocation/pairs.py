"""The habits of other programs in KEY VALUE pairs: KEY=VALUE, and a configuration without its option."""

import re
import shlex
from collections.abc import Collection, Sequence

_ASSIGNED = re.compile(r"([A-Za-z_][\w.]*)=(.*)", re.DOTALL)


def misread_words(words: Sequence[str], configs: Collection[str] = ()) -> list[str]:
    """Return a sentence, with what to type, for each word that stands where a key must and can be none.

    Args:
        words: what was typed as KEY VALUE pairs.
        configs: the names of shipped configurations.
    """
    found, index = [], 0
    while index < len(words):
        word = words[index]
        assigned = _ASSIGNED.fullmatch(word)
        if assigned:
            typed = f"{assigned[1]} {shlex.quote(assigned[2])}"
            found.append(f"{word}: a setting and its value are two words; type: {typed}")
        elif word.endswith((".yaml", ".yml")) or word in configs:
            found.append(f"{word}: a configuration needs its option; type: --config-file {shlex.quote(word)}")
        else:
            index += 1  # a key: its value follows
        index += 1
    return found
