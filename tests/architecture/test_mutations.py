"""The faults put in by hand: each still has its place. `python -m tests.architecture.mutations.run` tries them."""

import ast

import pytest

from tests.architecture.mutations.every import FAULTS
from tests.architecture.mutations.fault import TEST, TEST_ALL, Fault
from tests.architecture.rules import ROOT

FEWEST, MOST_SLOW = 44, 6


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
def test_a_fault_has_its_place_and_still_parses(fault: Fault) -> None:
    text = (ROOT / fault.file).read_text()
    assert text.count(fault.old) == 1, f"{fault.file} has changed: give the fault its new text"
    assert fault.new != fault.old
    ast.parse(text.replace(fault.old, fault.new))


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
def test_the_tests_that_catch_a_fault_exist(fault: Fault) -> None:
    assert fault.tests
    for test in fault.tests:
        file, *names = test.split("::")
        content = (ROOT / file).read_text()
        assert all(f"def {name.split('[')[0]}(" in content for name in names), test


def test_every_part_has_faults_nearly_all_of_the_quick_tier() -> None:
    assert len(FAULTS) >= FEWEST
    assert len({fault.id for fault in FAULTS}) == len(FAULTS)
    assert {fault.tier for fault in FAULTS} == {TEST, TEST_ALL}
    assert sum(fault.tier == TEST_ALL for fault in FAULTS) <= MOST_SLOW
    assert {fault.file.split("/")[0] for fault in FAULTS} == {"pretrain", "transfer", "tools"}
