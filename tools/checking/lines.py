"""The lines that tools/check_dataset.py prints: faults by kind, and the contents of the data."""

from collections import Counter
from collections.abc import Iterator, Sequence

from pretrain.runtime.errors import listed_lines
from transfer.data.common.faults import KINDS, Fault


def fault_lines(faults: Sequence[Fault], shown: int | None) -> Iterator[str]:
    """Yield the faults by kind, under a line with the count and rule of each; at most `shown` of a kind."""
    for kind in KINDS:
        own = [fault for fault in faults if fault.kind == kind]
        if own:
            yield f"{kind}: {len(own)} {KINDS[kind].meaning}; rule: {own[0].rule}"
            yield from listed_lines(own, shown, advice=" (--all lists them)")


def contents_line(images: int, objects: Counter[str]) -> str:
    """Describe how many images and objects the data have, and of which classes."""
    by_class = ", ".join(f"{name} {count}" for name, count in objects.most_common())
    return f"{images} images, {objects.total()} objects ({by_class or 'none'})"
