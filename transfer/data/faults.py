"""What can be wrong with annotations and results, and the rule for each kind of fault.

refuse  nothing is read; one message lists every fault
clip    the box is cut at the edges of its image
drop    the object (or row) is left out of training and evaluation
keep    it stays as the file has it, and what Detectron2 and pycocotools do with such an object follows
"""

import difflib
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from transfer.faults import refuse

_DONE = {"drop": "left out", "clip": "clipped"}  # what a rule that changes the data did
GONE = frozenset(("refuse", "drop"))  # rules by which the object is no longer among the data
FLAG = "--data-rule"  # of every tool that reads annotations

log = logging.getLogger(__name__)


class Kind(NamedTuple):
    """A kind of fault: what is at fault, as words that follow a count, and the rules to choose from, default first."""

    meaning: str
    rules: tuple[str, ...]


_REFUSE, _DROP = ("refuse",), ("refuse", "drop")
# Not refused unless asked are the faults of published data sets, for which Detectron2 has a way: COCO train2017 holds
# two boxes without area, as BCCD does; lists of a part of COCO's images leave annotations without an image.
KINDS = {
    "file": Kind("files that cannot be read", _REFUSE),
    "image": Kind("images with a wrong entry", _REFUSE),
    "image_file": Kind("image files missing, unreadable or of another size", _REFUSE),
    "categories": Kind("categories with a wrong entry", _REFUSE),
    "annotation": Kind("annotations without whole-number ids", _DROP),
    "duplicate_id": Kind("annotations whose id is taken", _DROP),
    "orphan": Kind("annotations belong to no image of the file", ("drop", "refuse")),
    "class": Kind("objects or rows of an unknown class", _DROP),
    "box": Kind("boxes not finite or inside out", _DROP),
    "zero_area": Kind("boxes without area inside their image", ("keep", "refuse", "drop")),
    "outside": Kind("boxes reach beyond their image", ("refuse", "clip", "drop", "keep")),
    "polygon": Kind("objects with a polygon of fewer than 3 points", ("keep", "refuse", "drop")),
    "mask": Kind("masks not finite, far outside their image or not its run lengths", _DROP),
    "keypoints": Kind("objects or rows with wrong keypoints", _DROP),
    "num_keypoints": Kind("objects whose num_keypoints is not the number of those marked", ("refuse", "drop", "keep")),
    "flag": Kind("objects with a wrong iscrowd, ignore or difficult", _DROP),
    "row": Kind("results without all their fields", _DROP),
    "score": Kind("scores that are not finite numbers", _DROP),
    "unknown_image": Kind("results for images that the data do not have", _DROP),
}

Rules = Mapping[str, str]  # kind -> rule, of the kinds whose default is not wanted


class Fault(NamedTuple):
    """One fault: its kind, the place in its file, what is wrong, and the rule that holds for it."""

    kind: str
    where: str
    what: str
    rule: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


class Findings:
    """The faults met while data are read, each with the rule that holds for it.

    Args:
        rules: of the kinds whose default is not wanted, as `parse` gives them.
    """

    def __init__(self, rules: Rules | None = None) -> None:
        self._rules = {kind: KINDS[kind].rules[0] for kind in KINDS} | dict(rules or {})
        self._settled = 0  # so many faults belong to files whose reading has ended
        self.faults: list[Fault] = []

    def add(self, kind: str, where: str, what: str) -> str:
        """Note a fault; returns the rule that the caller has to apply."""
        rule = self._rules[kind]
        self.faults.append(Fault(kind, where, what, rule))
        return rule

    def refused(self) -> list[Fault]:
        """The faults that no rule settles."""
        return [fault for fault in self.faults if fault.rule == "refuse"]

    def counts(self) -> dict[str, int]:
        """ "KIND=RULE" -> how many faults were settled so, in the order of KINDS."""
        found = Counter((fault.kind, fault.rule) for fault in self.faults if fault.rule != "refuse")
        order = [(kind, rule) for kind in KINDS for rule in KINDS[kind].rules]
        return {f"{kind}={rule}": found[kind, rule] for kind, rule in order if found[kind, rule]}

    def settle(self, path: object) -> None:
        """End the reading of `path`: raise TransferError listing what is refused, warn of what a rule changed."""
        refuse([str(fault) for fault in self.refused()], choices(self.refused()))
        new, self._settled = self.faults[self._settled :], len(self.faults)
        for kind in KINDS:
            changed = [fault for fault in new if fault.kind == kind and fault.rule in _DONE]
            if changed:
                shown = "; ".join(fault.where for fault in changed[:3]) + ("; ..." if len(changed) > 3 else "")
                done = f"{KINDS[kind].meaning}: {_DONE[changed[0].rule]}"
                log.warning("%s: %d %s (%s)", path, len(changed), done, shown)


def choices(refused: Sequence[Fault]) -> str:
    """Which rules would let refused faults pass; empty where one of them has no other rule."""
    kinds = [kind for kind in KINDS if kind in {fault.kind for fault in refused}]
    others = [[rule for rule in KINDS[kind].rules if rule != "refuse"] for kind in kinds]
    if not kinds or not all(others):
        return ""
    return "or: " + " ".join(f"{FLAG} {kind}={'|'.join(rules)}" for kind, rules in zip(kinds, others, strict=True))


def parse(settings: Sequence[str]) -> dict[str, str]:
    """Rules from "KIND=RULE" texts, of which the last of a kind holds. TransferError lists every one that is none."""
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
