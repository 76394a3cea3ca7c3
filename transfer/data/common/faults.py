"""The kinds of fault in annotations and results, and the rule for each.

refuse     nothing is read; one message lists every fault
drop       the object (or detection) is left out of training and evaluation; an image, of training alone
keep       it stays as the file has it; Detectron2 and pycocotools then treat it as they do
allow      it is no fault for a detector that does not need it, and is not mentioned

The others repair, and say so: accept (a file under another spelling of its name), clear (iscrowd becomes 0), clip (the
box is cut at the edges of its image), convert (the same value in COCO's form), fill (the missing value is computed),
flip (the box begins at its other corner), join (the second entry becomes the first), rectangle (two corners become a
polygon), renumber (the annotation gets an id that is free).
"""

import difflib
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from transfer.errors import refuse

_DONE = {  # by a rule that changes the data
    "accept": "accepted",
    "clear": "taken for single objects",
    "clip": "clipped",
    "convert": "converted",
    "drop": "left out",
    "fill": "filled in",
    "flip": "turned round",
    "join": "joined with the first",
    "rectangle": "made rectangles of",
    "renumber": "numbered anew",
}
_TRACE = 0.1  # of all objects: a rule that leaves out more is no repair, and is not offered
GONE = frozenset(("refuse", "drop"))  # rules by which the object is no longer among the data
FLAG = "--data-rule"  # of every tool that reads annotations

log = logging.getLogger(__name__)


class FaultKind(NamedTuple):
    """A kind of fault.

    Args:
        meaning: words that follow a count.
        rules: those to choose from, the default first.
        repair: what to do to the data themselves, where that is the same for all faults of the kind.
        of: what `drop` leaves out, "objects" (or detections) or "images".
    """

    meaning: str
    rules: tuple[str, ...]
    repair: str = ""
    of: str = "objects"


_REFUSE, _DROP, _CONVERT = ("refuse",), ("refuse", "drop"), ("refuse", "convert")
_NEEDED = ("allow", "refuse", "drop")  # `rules_for` turns "allow" into "refuse" where a detector needs it
# Faults that published data sets have, and that Detectron2 can handle, are not refused by default: COCO train2017 and
# BCCD hold two boxes without area each; lists of a part of COCO's images leave annotations without an image.
KINDS = {
    "file": FaultKind("files that cannot be read", _REFUSE),
    "image": FaultKind("images with a wrong entry", _REFUSE),
    "same_image": FaultKind("images listed twice", ("refuse", "join")),
    "image_file": FaultKind("image files missing or unreadable", _DROP, of="images"),
    "image_size": FaultKind("image files of another size than stated", _DROP, of="images"),
    "label_map": FaultKind("label maps missing, unreadable or in colours", _DROP, of="images"),
    "label_value": FaultKind("label maps with an index that no class has", _REFUSE, of="images"),
    "narrow": FaultKind("images of less than a pixel a side once they are resized", _DROP, of="images"),
    "spelling": FaultKind("image files found under another spelling of their name", ("accept", "refuse")),
    "folder": FaultKind(
        "image files found in the image folder, not in file_name's own",
        ("refuse", "accept"),
        "file_name is relative to the image folder: write the name alone",
    ),
    "categories": FaultKind("categories with a wrong entry", _REFUSE),
    "unused_category": FaultKind(
        "categories of a name that another one has, without an annotation", ("drop", "refuse")
    ),
    "category_name": FaultKind("categories of a name that another one has", ("refuse", "join")),
    "frequency": FaultKind("categories of LVIS without a frequency r, c or f", _REFUSE),
    "verified": FaultKind(
        "missing or wrong lists of the classes that an LVIS image was verified for",
        _REFUSE,
        "take the file as LVIS publishes it: the score needs both lists of every image",
    ),
    "annotation": FaultKind("annotations without whole-number ids", _DROP),
    "number": FaultKind("numbers written as text, or whole ones with a decimal point", _CONVERT),
    "duplicate_id": FaultKind("annotations without an id of their own", ("refuse", "renumber", "drop")),
    "incomplete": FaultKind("annotations without area, iscrowd or num_keypoints", ("fill", "refuse")),
    "orphan": FaultKind("annotations belong to no image of the file", ("drop", "refuse")),
    "class": FaultKind("objects or detections of an unknown class", _DROP),
    "all_crowd": FaultKind(
        "files whose objects are all crowds, which nothing is trained or scored on", ("refuse", "clear")
    ),
    "fractions": FaultKind(
        "boxes in fractions of their image",
        _DROP,
        "pixels are expected: multiply x and width by the image's width, y and height by its height (YOLO's x and y "
        "are the middle of the box: first subtract half its width and height)",
    ),
    "corners": FaultKind("files whose boxes are x1, y1, x2, y2, where COCO has x, y, width, height", _CONVERT),
    "other_scale": FaultKind("files whose boxes belong to images of another size", ("refuse", "keep")),
    "box": FaultKind("boxes not finite or inside out", _DROP),
    "negative": FaultKind("boxes of negative width or height", ("refuse", "flip", "drop")),
    "zero_area": FaultKind("boxes without area inside their image", ("keep", "refuse", "drop")),
    "outside": FaultKind("boxes reach beyond their image", ("refuse", "clip", "drop", "keep")),
    "pairs": FaultKind("masks not as [[x1, y1, x2, ...], ...]: points [x, y], or no outer list", _CONVERT),
    "polygon": FaultKind("objects with a polygon of fewer than 3 points", ("keep", "refuse", "rectangle", "drop")),
    "outline": FaultKind("objects whose polygon makes no area: not finite, or of fewer than 3 points", _DROP),
    "mask": FaultKind("masks not finite, far outside their image or not its run lengths", _DROP),
    "boxes_only": FaultKind(
        "files without a single mask", ("allow", "refuse"), "MODEL.MASK_ON False trains a detector of boxes"
    ),
    "no_mask": FaultKind("objects without a mask, in a file that has masks", _NEEDED),
    "run_length": FaultKind(
        "objects with a run-length mask, which MASK_FORMAT polygon cannot use",
        _NEEDED,
        "INPUT.MASK_FORMAT bitmask trains on polygons and run lengths",
    ),
    "keypoints": FaultKind("objects or detections with wrong keypoints", _DROP),
    "no_keypoints": FaultKind("objects without the keypoints of a person", _REFUSE),
    "points": FaultKind("people with wrong DensePose points, or detections with a wrong map of them", _DROP),
    "num_keypoints": FaultKind(
        "objects whose num_keypoints is not the number of those marked", ("refuse", "drop", "keep")
    ),
    "flag": FaultKind("objects with a wrong iscrowd, ignore or difficult", _DROP),
    "no_object": FaultKind("data without an object to train on or to score", _REFUSE),
    "class_without_label": FaultKind("classes of which no labelled image shows an object", ("refuse", "keep")),
    "unscored": FaultKind("objects that pycocotools cannot score", _REFUSE),
    "row": FaultKind("results without all their fields", _DROP),
    "score": FaultKind("scores that are not finite numbers", _DROP),
    "unknown_image": FaultKind("results for images that the data do not have", _DROP),
}

Rules = Mapping[str, str]  # kind -> rule, for the kinds whose default is not wanted


class Fault(NamedTuple):
    """A fault: its kind, its place in the file, its description, and the rule that applies to it."""

    kind: str
    where: str
    what: str
    rule: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


class Findings:
    """The faults met while data are read, each with the rule that applies to it.

    Args:
        rules: for the kinds whose default is not wanted, as `parse_rules` returns them.
    """

    def __init__(self, rules: Rules | None = None) -> None:
        self._asked = dict(rules or {})
        self._rules = {kind: KINDS[kind].rules[0] for kind in KINDS} | self._asked
        self._reported = 0  # number of faults in files whose reading has ended
        self.totals = Counter[str]()  # "objects" and "images" among which faults are looked for -> their number
        self.repairs: dict[str, str] = {}  # kind -> the repair of the faults that were found, where it is known better
        self.faults: list[Fault] = []

    def add(self, kind: str, where: str, what: str) -> str:
        """Add a fault; return the rule that the caller has to apply."""
        rule = self._rules[kind]
        self.faults.append(Fault(kind, where, what, rule))
        return rule

    def allows(self, kind: str) -> bool:
        """Return True if this kind is no fault here: the detector does not need what is missing."""
        return self._rules[kind] == "allow"

    def refused(self) -> list[Fault]:
        """Return the faults whose rule is to refuse the data."""
        return [fault for fault in self.faults if fault.rule == "refuse"]

    def counts(self) -> dict[str, int]:
        """Return "KIND=RULE" -> the number of faults that this rule was applied to, in the order of KINDS."""
        found = Counter((fault.kind, fault.rule) for fault in self.faults if fault.rule != "refuse")
        order = [(kind, rule) for kind in KINDS for rule in KINDS[kind].rules]
        return {f"{kind}={rule}": found[kind, rule] for kind, rule in order if found[kind, rule]}

    def advice(self) -> str:
        """Return the repairs of the refused faults, then the options by which they would pass, if there are for all.

        `drop` is not among them where it would leave out more than a trace; "" if nothing is refused.
        """
        found = Counter(fault.kind for fault in self.refused())
        kinds = [kind for kind in KINDS if kind in found]
        repairs = {kind: self.repairs.get(kind, KINDS[kind].repair) for kind in kinds}
        parts = [repair for repair in repairs.values() if repair]
        offered = {kind: self._offered_rules(kind, found[kind]) for kind in kinds}
        if kinds and all(offered.values()):
            choices = " ".join(f"{FLAG} {kind}={'|'.join(rules)}" for kind, rules in offered.items())
            left_out = Counter[str]()
            for kind, rules in offered.items():
                left_out[KINDS[kind].of] += found[kind] if "drop" in rules else 0
            counts = [f"{count}{self._of(what)} {what}" for what, count in left_out.items() if count]
            parts.append(f"or: {choices}" + (f" (drop would leave out {' and '.join(counts)})" if counts else ""))
        return "; ".join(parts)

    def _of(self, what: str) -> str:
        return f" of {self.totals[what]}" if self.totals[what] else ""

    def _offered_rules(self, kind: str, count: int) -> list[str]:
        rules = KINDS[kind].rules
        if self._asked.get(kind) == "refuse" and KINDS[kind].of == "images":
            return []  # of a test set, none may be left out
        total = self.totals[KINDS[kind].of]
        few = not total or count <= max(1, _TRACE * total)
        return [rule for rule in rules if rule not in ("refuse", "allow") and (rule != "drop" or few)]

    def raise_if_refused(self, path: object) -> None:
        """End the reading of `path`: refuse it if a rule says so, else log what the rules changed.

        Raises:
            TransferError: lists every refused fault, and the rules by which they would pass.
        """
        refuse([str(fault) for fault in self.refused()], self.advice())
        new, self._reported = self.faults[self._reported :], len(self.faults)
        for kind in KINDS:
            changed = [fault for fault in new if fault.kind == kind and fault.rule in _DONE]
            if changed:
                shown = "; ".join(fault.where for fault in changed[:3]) + ("; ..." if len(changed) > 3 else "")
                done = f"{KINDS[kind].meaning}: {_DONE[changed[0].rule]}"
                log.warning("%s: %d %s (%s)", path, len(changed), done, shown)
        self.totals.clear()


def rules_for(rules: Rules, masks: bool = False, polygons: bool = False, scored: bool = False) -> dict[str, str]:
    """Return the rules by which data are read for a detector that needs some of what they may lack.

    Args:
        rules: those of the user.
        masks: True if the detector learns or is scored by masks.
        polygons: True if all masks must be polygons.
        scored: True for a test set, none of whose images may be left out: its AP would be another.
    """
    needed = {"no_mask": masks, "boxes_only": masks, "run_length": polygons}
    more = {kind: "refuse" for kind, needs in needed.items() if needs and rules.get(kind, "allow") == "allow"}
    whole = {kind: "refuse" for kind in KINDS if scored and KINDS[kind].of == "images"}
    return {**rules, **more, **whole}


def parse_rules(settings: Sequence[str]) -> dict[str, str]:
    """Parse rules such as "zero_area=drop"; the last one of a kind wins.

    Raises:
        TransferError: lists every text that does not name a kind of fault and one of its rules.
    """
    rules, faults = {}, []
    for setting in settings:
        kind, _, rule = setting.partition("=")
        if kind not in KINDS:
            near = difflib.get_close_matches(kind, KINDS, n=1)
            guess = f" (near: {near[0]})" if near else ""
            faults.append(f"{FLAG} {setting}: no kind of fault is named {kind!r}{guess}; known: {', '.join(KINDS)}")
        elif rule not in KINDS[kind].rules:
            faults.append(f"{FLAG} {setting}: the rule for {kind} is one of {', '.join(KINDS[kind].rules)}")
        else:
            rules[kind] = rule
    refuse(faults)
    return rules
