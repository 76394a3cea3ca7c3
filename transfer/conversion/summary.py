"""The account of a conversion: which tensors were renamed, dropped and filled, in groups or one by one."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from pretrain.runtime.files import file_sha256
from transfer.conversion.convert import Conversion

_GROUP = re.compile(r"(.*?\.)??(stem|layer[1-4]|res[2-5])(?=\.)|(.*\.)?(conv1|bn1)(?=\.)")


def count_groups(conversion: Conversion, to: str, family: str | None) -> Iterator[tuple[str, str, int]]:
    """Yield (group of names in the source, its group in the file written or "dropped", number of tensors).

    Args:
        to, family: the form of the file written; see `transfer.weights.backbone_file.write_backbone`.
    """
    rows = conversion.rows(to, family)
    mapped = Counter((_stage_of(name), _stage_of(target)) for name, target, _ in rows if name)
    for (origin, target), count in mapped.items():
        yield origin, target, count
    for group, count in Counter(_dropped_group(name) for name in conversion.source.dropped).items():
        yield group, "dropped", count
    if conversion.source.filled:
        yield "not in the file", "*.num_batches_tracked = 0", len(conversion.source.filled)


def name_table(conversion: Conversion, to: str, family: str | None) -> str:
    """Return a tab-separated table: source name, target name, shape.

    A tensor that the source lacks has no source name, one that is dropped has no target name.
    """
    lines = ["source\ttarget\tshape"]
    lines += [f"{name}\t{target}\t{shape}" for name, target, shape in conversion.rows(to, family)]
    lines += [f"{name}\t\t" for name in conversion.source.dropped]
    return "\n".join(lines) + "\n"


def as_json(conversion: Conversion, output: Path, to: str) -> str:
    """Return the account of what was written, for programs: its path, form, SHA-256 and metadata."""
    weights = next(output.glob("*.safetensors")) if output.is_dir() else output
    content = {"file": str(output), "to": to, "sha256": file_sha256(weights), "metadata": conversion.metadata}
    return json.dumps(content, indent=2) + "\n"


def label_line(conversion: Conversion, given: str | None) -> str:
    """Return what the rows of a report will be called, and whether that is known."""
    label = conversion.metadata["label"]
    if given is not None or conversion.source.method is not None:
        return f"label: {label}"
    return (
        f"label: unknown, the file does not tell which method trained it; its rows in a report are called {label!r}. "
        "Name it with --label"
    )


def _stage_of(name: str) -> str:
    """The name of a tensor up to the part of the ResNet that it belongs to: "module.encoder_q.layer1", "stem"."""
    match = _GROUP.match(name)
    return match[0] if match else name


def _dropped_group(name: str) -> str:
    """A few words for what is left out: "module.encoder_k.*", "module.encoder_q.fc.*", "module.queue"."""
    parts = name.split(".")
    keep = 1 + (parts[0] == "module") + bool({"encoder_q", "base_encoder"} & set(parts))
    return name if len(parts) <= keep else ".".join(parts[:keep]) + ".*"
