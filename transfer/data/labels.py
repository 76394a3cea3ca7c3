"""Few labels: the part of the training images whose labels a run learns from, drawn once or listed in a file.

The draw: images are ordered by the SHA-256 of "SEED NAME", where NAME is the id of the image. A fraction takes the
first of them, so that 1 % is a part of 5 % under one seed. The order depends on nothing else: it is the same on every
rank, for every start and trial, on every machine, and can be repeated in any language.
"""

import hashlib
import logging
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from pretrain.runtime.errors import listed
from transfer.data.common.dataset import Dataset
from transfer.data.common.faults import Findings
from transfer.data.label_list import image_names, read_label_list
from transfer.errors import TransferError
from transfer.results import Labels

FLAG, SEED_FLAG = "--labels", "--labels-seed"  # of tools/finetune.py
FILE_NAME = "labels.txt"  # the list, in the folder of a run
FORMS = "a percentage of the images such as 5%, K-per-class such as 10-per-class, or a text file"
_PERCENT = re.compile(r"(\d+(?:\.\d+)?)\s*%")
_PER_CLASS = re.compile(r"(\d+)-per-class")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """The part of the images that `--labels` asks for: exactly one of the fields is not None."""

    share: Fraction | None = None  # above 0, at most 1
    per_class: int | None = None  # objects, 1 or more
    path: Path | None = None

    @property
    def is_drawn(self) -> bool:
        """True where the draw seed decides which images it is."""
        return self.path is None and self.share != 1


@dataclass(frozen=True)
class LabelledImages:
    """The images whose labels a run learns from.

    Args:
        names: of the images in the order of the data.
        labels: what result.json says of them.
        fraction: `labels.fraction`, exactly.
        remark: what a reader of the scores must know; None: nothing.
    """

    names: tuple[str, ...]
    labels: Labels
    fraction: Fraction
    remark: str | None = None

    @property
    def text(self) -> str:
        """The content of labels.txt."""
        return _text(self.names)


def parse_labels(text: str) -> Request:
    """Read the value of `--labels`.

    Raises:
        TransferError: a number that is out of range.
    """
    text = text.strip()
    if found := _PERCENT.fullmatch(text):
        share = Fraction(found[1]) / 100
        if not 0 < share <= 1:
            raise TransferError(f"{FLAG} {text}: a percentage above 0 and up to 100 is expected")
        return Request(share=share)
    if found := _PER_CLASS.fullmatch(text):
        if not int(found[1]):
            raise TransferError(f"{FLAG} {text}: 1-per-class or more is expected")
        return Request(per_class=int(found[1]))
    return Request(path=Path(text).expanduser())


def check_labels(text: str) -> Request:
    """Read the value of `--labels` as `parse_labels`, and refuse a list that is not there.

    Raises:
        TransferError: it is none of FORMS, or out of range.
    """
    request = parse_labels(text)
    if request.path is not None and not request.path.is_file():
        near = f" ({FLAG} {text}% is a percentage)" if re.fullmatch(r"\d*\.?\d+", text) else ""
        raise TransferError(f"{FLAG} {text}: no such file; expected: {FORMS}{near}")
    return request


def folder_name(text: str) -> str:
    """Return the name of the folder for runs with a part of the labels: "labels_5pct", "labels_10-per-class"."""
    request = parse_labels(text)
    if request.path is not None:
        return "labels_" + re.sub(r"[^A-Za-z0-9_.-]", "_", request.path.stem)
    return "labels_" + text.strip().replace("%", "pct").replace(" ", "")


def describe_labels(labels: Labels) -> str:
    """Return "5% (14 of 292 images, 205 objects, draw seed 0, list 3fa9c1d2)"."""
    seed = "" if labels.seed is None else f", draw seed {labels.seed}"
    objects = f"{labels.objects} object{'' if labels.objects == 1 else 's'}"
    return f"{labels.asked} ({labels.images} of {labels.of} images, {objects}{seed}, list {labels.sha256[:8]})"


def choose_labels(dataset: Dataset, asked: str, seed: int, trainable: Sequence[int]) -> tuple[Dataset, LabelledImages]:
    """Return the part of the training data that `--labels` asks for. Reads no image.

    Args:
        dataset: all training data; its rules say what to do about a class without a label.
        asked: the value of `--labels`.
        seed: of the draw, 0 or more.
        trainable: the indices of the images that there is something to learn from (transfer.data.common.trainable).

    Raises:
        TransferError: no image is left, a class is left without a label, or a file names images that are not there.
    """
    request, records = check_labels(asked), dataset.records
    names = image_names(records)
    shown = _objects_by_class(records)
    if not trainable:
        raise TransferError(f"{FLAG} {asked}: none of the {len(records)} images shows an object to learn from")
    order = sorted(trainable, key=lambda index: hashlib.sha256(f"{seed} {names[index]}".encode()).digest())
    if request.path is not None:
        chosen = _listed(request.path, records, trainable)
    elif request.per_class is not None:
        chosen = _per_class(request.per_class, order, shown, dataset.class_names)
    else:
        chosen = order[: math.floor((request.share or 0) * len(order))]
        if not chosen:
            raise TransferError(
                f"{FLAG} {asked}: that is less than 1 of {len(order)} images; {_percent(1, len(order))} is 1 image, "
                "1-per-class has every class"
            )
    chosen = sorted(chosen)
    remark = _check_classes(dataset, asked, request, order, chosen, shown)
    kept = tuple(names[index] for index in chosen)
    labels = Labels(
        asked=asked.strip(),
        fraction=len(chosen) / len(trainable),
        images=len(chosen),
        of=len(trainable),
        objects=sum(shown[index].total() for index in chosen),
        seed=seed if request.is_drawn else None,
        sha256=hashlib.sha256(_text(kept).encode()).hexdigest(),
    )
    part = records if len(chosen) == len(trainable) else [records[index] for index in chosen]
    fraction = Fraction(len(chosen), len(trainable))
    return replace(dataset, records=part), LabelledImages(kept, labels, fraction, remark)


def _objects_by_class(records: Sequence[Mapping[str, Any]]) -> list[Counter[int]]:
    """Return class index -> number of objects, crowds not counted, of each image."""
    return [
        Counter(item["category_id"] for item in record["annotations"] if not item.get("iscrowd", 0))
        for record in records
    ]


def _listed(path: Path, records: Sequence[Mapping[str, Any]], trainable: Sequence[int]) -> list[int]:
    """Return the images of a file that there is something to learn from."""
    named, useful = read_label_list(path, records), set(trainable)
    chosen = [index for index in named if index in useful]
    if not chosen:
        raise TransferError(f"{path}: none of its {len(named)} images shows an object to learn from")
    if len(chosen) < len(named):
        empty = [str(records[index]["file_name"]) for index in named if index not in useful]
        log.warning(
            "%s: %d of its %d images show no object to learn from and do not count as labelled: %s",
            path, len(empty), len(named), listed(empty, 3),
        )  # fmt: skip
    return chosen


def _per_class(
    least: int, order: Sequence[int], shown: Sequence[Counter[int]], class_names: Sequence[str]
) -> list[int]:
    """Return the first images in the order by which every class has `least` objects, the rarest class first.

    An image counts with all its objects, so that common classes come to have more.
    """
    total = Counter[int]()
    for index in order:
        total.update(shown[index])
    if short := {class_names[one]: total[one] for one in sorted(total) if total[one] < least}:
        counts = listed([f"{name} {count}" for name, count in short.items()], 10)
        most = min(short.values())
        raise TransferError(
            f"{FLAG} {least}-per-class: the training data have fewer objects of {len(short)} of {len(total)} classes "
            f"({counts}); {most}-per-class is the most that all of them have"
        )
    chosen: set[int] = set()
    have = Counter[int]()
    for one in sorted(total, key=lambda index: (total[index], index)):
        for index in order:
            if have[one] >= least:
                break
            if index not in chosen and shown[index][one]:
                chosen.add(index)
                have.update(shown[index])
    return list(chosen)


def _check_classes(
    dataset: Dataset,
    asked: str,
    request: Request,
    order: Sequence[int],
    chosen: Sequence[int],
    shown: Sequence[Counter[int]],
) -> str | None:
    """Refuse a choice without any object of a class that the data have, unless the rule is to keep it.

    Returns the remark on those classes, or None where there are none.
    """
    known = set().union(*(shown[index] for index in order))
    missing = sorted(known.difference(*(shown[index] for index in chosen)))
    if not missing:
        return None
    names = listed([dataset.class_names[one] for one in missing], 10)
    what = f"no labelled image shows {names} ({len(missing)} of {len(known)} classes)"
    findings = Findings(dataset.rules)
    findings.add("class_without_label", f"{FLAG} {asked}", f"{len(chosen)} of {len(order)} images: {what}")
    if request.path is not None:
        findings.repairs["class_without_label"] = "add images that show them to the list"
    else:
        enough = _first(order, lambda index: set(shown[index]), known)
        findings.repairs["class_without_label"] = (
            f"{FLAG} {_percent(enough, len(order))} shows them all under this seed, {FLAG} 1-per-class under any"
        )
    findings.raise_if_refused(f"{FLAG} {asked}")
    return f"{what}: the detector had nothing to learn them from"


def _first(order: Sequence[int], shows: Callable[[int], set[int]], wanted: set[int]) -> int:
    """Return how many of the first images show every one of the wanted classes."""
    missing = set(wanted)
    for count, index in enumerate(order, start=1):
        missing -= shows(index)
        if not missing:
            return count
    return len(order)


def _percent(count: int, of: int) -> str:
    """Return the smallest whole percentage that is `count` images, "7%"."""
    return f"{math.ceil(Fraction(100 * count, of))}%"


def _text(names: Sequence[str]) -> str:
    return "".join(f"{name}\n" for name in names)
