"""The file of an offline run of W&B, read as `wandb sync` reads it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

_BLOCK, _HEADER = 32768, 7  # bytes: of LevelDB's log format; the file begins with as many of its own


def rows(folder: Path) -> list[dict[str, Any]]:
    """Return the rows that the offline runs in `folder`/wandb hold, in the order of their start."""
    import json

    from wandb.proto import wandb_internal_pb2

    found = []
    for path in sorted(folder.glob("wandb/offline-run-*/run-*.wandb")):
        for data in _records(path.read_bytes()):
            record = wandb_internal_pb2.Record.FromString(data)
            if record.WhichOneof("record_type") == "history":
                items = record.history.item
                found.append({item.key or item.nested_key[0]: json.loads(item.value_json) for item in items})
    return found


def run_ids(folder: Path) -> list[str]:
    """Return the id of each offline run in `folder`/wandb, in the order of their start."""
    return [path.name.rpartition("-")[2] for path in sorted(folder.glob("wandb/offline-run-*"))]


def _records(content: bytes) -> Iterator[bytes]:
    """Yield the records; one that is longer than the rest of a block is in parts."""
    place, parts = _HEADER, b""
    while place + _HEADER <= len(content):
        if _BLOCK - place % _BLOCK < _HEADER:
            place += _BLOCK - place % _BLOCK
            continue
        length, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        parts += content[place + _HEADER : place + _HEADER + length]
        place += _HEADER + length
        if kind in (1, 4):  # whole, or the last part
            yield parts
            parts = b""
