"""The check of COCO's run-length masks before pycocotools' C code, which crashes or hangs on bad ones, sees them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pycocotools.mask

_FIRST, _LAST = 48, 111  # the 64 characters "0" to "o"; each carries 5 bits and whether more follow


def mask_fault(mask: Any, height: int, width: int) -> str | None:
    """Describe what is wrong with a run-length mask of an image height x width; return None if nothing is.

    Args:
        mask: {"size": [height, width], "counts": runs as a list of integers, or compressed as text}.
    """
    if not isinstance(mask, Mapping) or "size" not in mask or "counts" not in mask:
        return "a run-length mask needs size and counts"
    if mask["size"] != [height, width]:
        return f"mask size {str(mask['size'])[:40]} is not the image's [height, width] = [{height}, {width}]"
    counts = mask["counts"]
    if isinstance(counts, list):
        if not all(type(run) is int and run >= 0 for run in counts):
            return "mask counts are not all integers from 0 up"
        total = sum(counts)
    elif isinstance(counts, str):
        runs = decode_runs(counts)
        if runs is None:
            return "mask counts are not COCO's compressed run lengths"
        if runs.size and runs.min() < 0:
            return "mask counts hold a negative run"
        total = int(runs.sum())
    else:
        return f"mask counts are {type(counts).__name__}, a list or text is expected"
    return None if total == height * width else f"mask runs sum to {total}, not to height x width = {height * width}"


def compress_mask(mask: Mapping[str, Any]) -> dict[str, Any]:
    """Return the same mask with compressed counts, as ASCII text. It must be free of faults."""
    if isinstance(mask["counts"], str):
        return {"size": list(mask["size"]), "counts": mask["counts"]}
    encoded = pycocotools.mask.frPyObjects(dict(mask), *mask["size"])
    return {"size": list(mask["size"]), "counts": encoded["counts"].decode("ascii")}


def covered_pixels(mask: Mapping[str, Any]) -> np.ndarray:
    """Return the indices (P,) int64 of the pixels of a mask, counted down the columns; it must be free of faults."""
    counts = mask["counts"]
    runs = decode_runs(counts) if isinstance(counts, str) else np.asarray(counts, dtype=np.int64)
    if runs is None:
        raise ValueError("the mask's counts are not COCO's compressed run lengths")
    lengths = runs[1::2]  # the runs of ones; those of zeros stand between them
    ends = np.cumsum(runs)[1::2]
    before = np.cumsum(lengths) - lengths  # pixels of the mask before each run
    return np.repeat(ends - lengths - before, lengths) + np.arange(lengths.sum())


def decode_runs(counts: str) -> np.ndarray | None:
    """Decode compressed text to runs (M,) int64; return None if it is not such a text.

    A number is 5 bits a character, lowest first, in two's complement; from the fourth on, each is the difference to
    the one two before (runs of one colour are alike).
    """
    if not counts.isascii():
        return None
    codes = np.frombuffer(counts.encode("ascii"), dtype=np.uint8).astype(np.int64)  # (L,)
    if codes.size == 0:
        return codes
    if codes.min() < _FIRST or codes.max() > _LAST:
        return None
    codes -= _FIRST
    ends = np.flatnonzero((codes & 0x20) == 0)  # (M,) the last character of each number
    if ends.size == 0 or ends[-1] != codes.size - 1:
        return None  # the last number is cut off
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    if lengths.max() > 7:
        return None  # 35 bits are more than any run of a 32-bit format needs
    place = np.arange(codes.size) - np.repeat(starts, lengths)  # of each character in its number
    numbers = np.add.reduceat((codes & 0x1F) << (5 * place), starts)
    numbers -= np.where(codes[ends] & 0x10, np.int64(1) << (5 * lengths), 0)  # sign
    runs = numbers.copy()
    runs[1::2] = np.cumsum(numbers[1::2])
    runs[2::2] = np.cumsum(numbers[2::2])
    return runs
