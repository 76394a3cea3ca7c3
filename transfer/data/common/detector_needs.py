"""The needs of any detector: images that can be resized, and objects to learn and to score."""

from collections.abc import Mapping, Sequence
from typing import Any

from transfer.data.common.faults import KINDS, Findings
from transfer.data.common.image_files import StatedImage

MAX_SIZE = 1333  # pixels of the longer side in Detectron2's recipes


def examine_shapes(images: Sequence[StatedImage], max_size: int | None, findings: Findings) -> list[bool]:
    """Add a fault for each image so narrow that nothing is left of its shorter side when it is resized.

    Args:
        max_size: pixels of the longer side after resizing, INPUT.MAX_SIZE_TRAIN or _TEST. None: they are not resized.

    Returns:
        For each image, True if it has no fault.
    """
    good = []
    for image in images:
        height, width = image.size or (1, 1)
        # Where the longer side decides, the shorter one becomes max_size * shorter / longer, rounded half up.
        narrow = max_size is not None and 2 * max_size * min(height, width) < max(height, width)
        if narrow:
            what = (
                f"{image.file}: {width} x {height} pixels, resized to at most {max_size}, leave less than a pixel of "
                "the shorter side: cut the image, or raise INPUT.MAX_SIZE_TRAIN and MAX_SIZE_TEST"
            )
            findings.add("narrow", image.where, what)
        good.append(not narrow)
    findings.totals["images"] = max(findings.totals["images"], len(images))
    return good


def examine_objects(
    objects: Sequence[Mapping[str, Any]],
    scored: bool,
    where: str,
    findings: Findings,
    left_out: Mapping[str, int] | None = None,
) -> None:
    """Add a fault where no object is left to learn, or to score.

    Args:
        objects: those read, with `iscrowd` or `difficult` where they have it.
        scored: True for data to score on, where difficult objects do not count either.
        where: the name of the data in messages.
        left_out: "KIND=RULE" -> the number of objects that the rule was applied to.
    """
    single = [item for item in objects if not item.get("iscrowd")]
    if any(not (scored and item.get("difficult")) for item in single):
        return
    reasons = []
    if len(single) < len(objects):
        reasons.append(f"{len(objects) - len(single)} objects are crowds (iscrowd 1)")
    if single:
        reasons.append(f"{len(single)} objects are difficult")
    for setting, count in (left_out or {}).items():
        kind, _, rule = setting.partition("=")
        if rule == "drop" or kind == "zero_area":
            reasons.append(f"{count} {KINDS[kind].meaning}")
    because = f" ({'; '.join(reasons)})" if reasons else ""
    findings.add("no_object", where, f"no object to {'score' if scored else 'train on'}{because}")
