"""The test images that a detector was trained on, by which its AP is no measure of new images."""

import filecmp
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from pretrain.runtime.errors import listed
from transfer.errors import TransferError

_FEW = 20_000  # training images whose lengths are all looked at; of more, those of the test images' names
_SKETCH = 256  # bytes

Records = Sequence[Mapping[str, Any]]


def shared_images_remark(train: Records, test: Records, some_new: bool = False) -> str | None:
    """Return a remark on test images that are training images too, or copies of them; None if there is none.

    Args:
        train: Detectron2's standard dicts, of which "file_name" is read.
        test: as `train`.
        some_new: some of the test images must be new.

    Raises:
        TransferError: all test images are training images, where some must be new.
    """
    found = shared_files([str(one["file_name"]) for one in train], [str(one["file_name"]) for one in test])
    if not found:
        return None
    if some_new and len(found) == len(test):
        raise TransferError(
            f"all {len(test)} test images are training images too ({listed(found, 3)}): their AP would not tell how "
            "the detector does on new images; test on others (tools/check_dataset.py data TRAIN TEST compares the two)"
        )
    return (
        f"{len(found)} of {len(test)} test images are training images too ({listed(found, 3)}): the AP does not tell "
        "how the detector does on new images"
    )


def refuse_shared_images(train: Records, test: Records) -> None:
    """Refuse test images of label maps that are trained on, as some lists of VOC's and SBD's images have them.

    Raises:
        TransferError: names some of them.
    """
    if found := shared_files([str(one["file_name"]) for one in train], [str(one["file_name"]) for one in test]):
        raise TransferError(
            f"{len(found)} of {len(test)} test images are training images too ({listed(found, 3)}): the mIoU would not "
            "tell how the model does on new images. Leave them out of the images trained on"
        )


def shared_files(train: Sequence[str], test: Sequence[str]) -> list[str]:
    """Return the test files that are training files, by their path or by equal bytes, in order.

    A file is read only if another has its length and its bytes in the middle.
    """
    paths = set(train)
    names = {os.path.basename(path) for path in test}
    candidates = [path for path in train if len(train) <= _FEW or os.path.basename(path) in names]
    others = {path: _length(path) for path in test if path not in paths}
    lengths = set(others.values()) - {0}
    alike: dict[tuple[int, bytes], list[str]] = defaultdict(list)
    for path in candidates if lengths else ():
        if (length := _length(path)) in lengths:
            alike[length, _sketch(path, length)].append(path)
    copied = {path for path, length in others.items() if length in lengths and _has_copy(path, length, alike)}
    return [path for path in test if path in paths or path in copied]


def _has_copy(path: str, length: int, alike: Mapping[tuple[int, bytes], Sequence[str]]) -> bool:
    sketch = _sketch(path, length)
    others = alike.get((length, sketch), ()) if sketch else ()  # none of a file that cannot be read
    return any(filecmp.cmp(path, other, shallow=False) for other in others)


def _length(path: str) -> int:
    """Return the bytes of a file; 0 where there is none, which other checks name."""
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _sketch(path: str, length: int) -> bytes:
    """Return some bytes from the middle of a file, which tell images of one length apart."""
    try:
        with open(path, "rb") as file:
            file.seek(length // 2)
            return file.read(_SKETCH)
    except OSError:
        return b""
