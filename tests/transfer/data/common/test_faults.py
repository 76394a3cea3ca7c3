"""Rules for faults: how they are named, what holds without one, and what is said at the end of a file."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transfer.data.common import faults
from transfer.data.common.faults import KINDS, Findings
from transfer.errors import TransferError


def test_rules_are_read_and_the_last_of_a_kind_holds() -> None:
    assert faults.parse_rules(["outside=clip", "box=drop", "outside=keep"]) == {"outside": "keep", "box": "drop"}


def test_every_wrong_rule_is_named_with_the_right_ones() -> None:
    with pytest.raises(TransferError) as caught:
        faults.parse_rules(["zero_aera=drop", "box=clip", "outside", "mask=drop"])
    lines = str(caught.value).splitlines()
    assert lines[0] == "3 faults:"
    assert "no kind of fault is named 'zero_aera' (near: zero_area)" in lines[1]
    assert lines[2].endswith("--data-rule box=clip: the rule for box is one of refuse, drop")
    assert lines[3].endswith("--data-rule outside: the rule for outside is one of refuse, clip, drop, keep")


def test_faults_unseen_in_published_data_are_refused() -> None:
    lenient = {kind: one.rules[0] for kind, one in KINDS.items() if one.rules[0] != "refuse"}
    needed = {"boxes_only": "allow", "no_mask": "allow", "run_length": "allow"}  # until a detector needs them
    repairs = {"spelling": "accept", "unused_category": "drop", "incomplete": "fill"}
    assert lenient == {"orphan": "drop", "zero_area": "keep", "polygon": "keep", **needed, **repairs}
    assert all("refuse" in one.rules for one in KINDS.values())


def found(kind: str, count: int, total: int, **rules: str) -> Findings:
    findings = Findings(rules)
    findings.totals[KINDS[kind].of] = total
    for number in range(count):
        findings.add(kind, f"[{number}]", "is wrong")
    return findings


def test_drop_is_offered_where_it_takes_a_trace_only() -> None:
    assert found("box", 2, 20).advice() == "or: --data-rule box=drop (drop would leave out 2 of 20 objects)"
    assert found("image_size", 1, 20).advice().endswith("image_size=drop (drop would leave out 1 of 20 images)")
    assert found("box", 3, 20).advice() == ""
    assert found("duplicate_id", 3, 20).advice() == "or: --data-rule duplicate_id=renumber"


def test_no_image_of_a_test_set_is_offered_to_be_dropped() -> None:
    assert found("image_size", 1, 20, **faults.rules_for({}, scored=True)).advice() == ""


def test_the_repair_of_the_data_comes_first() -> None:
    fractions = found("fractions", 3, 3)
    assert fractions.advice().startswith("pixels are expected: multiply x and width by")
    fractions.repairs["fractions"] = "these are percents"
    assert fractions.advice() == "these are percents"


def test_what_a_detector_needs_is_refused_unless_a_rule_drops_it() -> None:
    assert faults.rules_for({"box": "drop"}) == {"box": "drop"}
    needed = {"no_mask": "refuse", "boxes_only": "refuse"}
    assert faults.rules_for({}, masks=True) == needed
    assert faults.rules_for({"no_mask": "allow"}, masks=True) == needed
    assert faults.rules_for({"no_mask": "drop"}, masks=True)["no_mask"] == "drop"
    assert faults.rules_for({}, masks=True, polygons=True) == {**needed, "run_length": "refuse"}


def test_no_rule_leaves_an_image_out_of_a_test_set() -> None:
    rules = faults.rules_for({"image_file": "drop", "box": "drop"}, scored=True)
    kinds_of_images = {kind for kind, about in faults.KINDS.items() if about.of == "images"}
    assert {"image_file", "image_size", "label_map", "narrow"} <= kinds_of_images
    assert rules == {"box": "drop", **dict.fromkeys(kinds_of_images, "refuse")}


@given(st.lists(st.sampled_from(sorted(KINDS))), st.booleans())
def test_counts_give_the_kind_and_rule_of_each_fault(kinds: list[str], lenient: bool) -> None:
    findings = Findings({kind: one.rules[-1] for kind, one in KINDS.items()} if lenient else None)
    for number, kind in enumerate(kinds):
        rule = findings.add(kind, f"line {number}", "is wrong")
        assert rule == (KINDS[kind].rules[-1] if lenient else KINDS[kind].rules[0])
    counts = findings.counts()
    assert sum(counts.values()) + len(findings.refused()) == len(kinds)
    for key, count in counts.items():
        kind, rule = key.split("=")
        assert (kinds.count(kind), faults.parse_rules([key])) == (count, {kind: rule})


def test_a_refusal_lists_all_faults_and_rules_that_would_do() -> None:
    findings = Findings({"score": "drop"})
    findings.add("mask", "a.json[3]", "is broken")
    findings.add("score", "a.json[4]", "is NaN")
    findings.add("outside", "a.json[5]", "is far")
    with pytest.raises(TransferError) as caught:
        findings.raise_if_refused("a.json")
    assert str(caught.value).splitlines() == [
        "2 faults:",
        "  a.json[3]: is broken",
        "  a.json[5]: is far",
        "or: --data-rule outside=clip|drop|keep --data-rule mask=drop (drop would leave out 2 objects)",
    ]
    findings.add("file", "b.json", "is gone")
    with pytest.raises(TransferError) as caught:
        findings.raise_if_refused("b.json")
    assert "or:" not in str(caught.value)  # no rule would do


def test_a_rule_that_changes_data_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    findings = Findings({"outside": "clip"})
    findings.raise_if_refused("nothing.json")
    for number in range(4):
        findings.add("outside", f"[{number}]", "is far")
    findings.add("zero_area", "[9]", "is a point")
    findings.raise_if_refused("a.json")
    findings.add("orphan", "[7]", "is alone")
    findings.raise_if_refused("b.json")
    assert caplog.messages == [
        "a.json: 4 boxes reach beyond their image: clipped ([0]; [1]; [2]; ...)",
        "b.json: 1 annotations belong to no image of the file: left out ([7])",
    ]
    assert findings.counts() == {"orphan=drop": 1, "zero_area=keep": 1, "outside=clip": 4}
