"""The kinds of fault in annotations and results, and the rule for each.

refuse  nothing is read; one message lists every fault
clip    the box is cut at the edges of its image
drop    the object (or detection) is left out of training and evaluation
keep    it stays as the file has it; Detectron2 and pycocotools then treat it as they do
"""

import difflib
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from transfer.errors import refuse

_DONE = {"drop": "left out", "clip": "clipped"}  # by a rule that changes the data
GONE = frozenset(("refuse", "drop"))  # rules by which the object is no longer among the data
FLAG = "--data-rule"  # of every tool that reads annotations

log = logging.getLogger(__name__)


class FaultKind(NamedTuple):
    """A kind of fault: its meaning, in words that follow a count, and the rules to choose from, the default first."""

    meaning: str
    rules: tuple[str, ...]


_REFUSE, _DROP = ("refuse",), ("refuse", "drop")
# Faults that published data sets have, and that Detectron2 can handle, are not refused by default: COCO train2017 and
# BCCD hold two boxes without area each; lists of a part of COCO's images leave annotations without an image.
KINDS = {
    "file": FaultKind("files that cannot be read", _REFUSE),
    "image": FaultKind("images with a wrong entry", _REFUSE),
    "image_file": FaultKind("image files missing, unreadable or of another size", _REFUSE),
    "categories": FaultKind("categories with a wrong entry", _REFUSE),
    "annotation": FaultKind("annotations without whole-number ids", _DROP),
    "duplicate_id": FaultKind("annotations whose id is taken", _DROP),
    "orphan": FaultKind("annotations belong to no image of the file", ("drop", "refuse")),
    "class": FaultKind("objects or detections of an unknown class", _DROP),
    "box": FaultKind("boxes not finite or inside out", _DROP),
    "zero_area": FaultKind("boxes without area inside their image", ("keep", "refuse", "drop")),
    "outside": FaultKind("boxes reach beyond their image", ("refuse", "clip", "drop", "keep")),
    "polygon": FaultKind("objects with a polygon of fewer than 3 points", ("keep", "refuse", "drop")),
    "mask": FaultKind("masks not finite, far outside their image or not its run lengths", _DROP),
    "keypoints": FaultKind("objects or detections with wrong keypoints", _DROP),
    "num_keypoints": FaultKind(
        "objects whose num_keypoints is not the number of those marked", ("refuse", "drop", "keep")
    ),
    "flag": FaultKind("objects with a wrong iscrowd, ignore or difficult", _DROP),
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
        self._rules = {kind: KINDS[kind].rules[0] for kind in KINDS} | dict(rules or {})
        self._reported = 0  # number of faults in files whose reading has ended
        self.faults: list[Fault] = []

    def add(self, kind: str, where: str, what: str) -> str:
        """Add a fault; return the rule that the caller has to apply."""
        rule = self._rules[kind]
        self.faults.append(Fault(kind, where, what, rule))
        return rule

    def refused(self) -> list[Fault]:
        """Return the faults whose rule is to refuse the data."""
        return [fault for fault in self.faults if fault.rule == "refuse"]

    def counts(self) -> dict[str, int]:
        """Return "KIND=RULE" -> the number of faults that this rule was applied to, in the order of KINDS."""
        found = Counter((fault.kind, fault.rule) for fault in self.faults if fault.rule != "refuse")
        order = [(kind, rule) for kind in KINDS for rule in KINDS[kind].rules]
        return {f"{kind}={rule}": found[kind, rule] for kind, rule in order if found[kind, rule]}

    def raise_if_refused(self, path: object) -> None:
        """End the reading of `path`: refuse it if a rule says so, else log what the rules changed.

        Raises:
            TransferError: lists every refused fault, and the rules by which they would pass.
        """
        refuse([str(fault) for fault in self.refused()], rule_advice(self.refused()))
        new, self._reported = self.faults[self._reported :], len(self.faults)
        for kind in KINDS:
            changed = [fault for fault in new if fault.kind == kind and fault.rule in _DONE]
            if changed:
                shown = "; ".join(fault.where for fault in changed[:3]) + ("; ..." if len(changed) > 3 else "")
                done = f"{KINDS[kind].meaning}: {_DONE[changed[0].rule]}"
                log.warning("%s: %d %s (%s)", path, len(changed), done, shown)


def rule_advice(refused: Sequence[Fault]) -> str:
    """Return the options by which refused faults would pass; "" if one of them can only be refused."""
    kinds = [kind for kind in KINDS if kind in {fault.kind for fault in refused}]
    others = [[rule for rule in KINDS[kind].rules if rule != "refuse"] for kind in kinds]
    if not kinds or not all(others):
        return ""
    return "or: " + " ".join(f"{FLAG} {kind}={'|'.join(rules)}" for kind, rules in zip(kinds, others, strict=True))


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
