"""Freed memory stays with the process, as the system counts it."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys, torch
from pretrain.runtime import malloc
if sys.argv[1] == "keep" and not malloc.keep_freed_memory():
    sys.exit(3)
for turn in range(20):
    if turn == 15:  # by then the heap has room for aligned blocks between the others
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.empty(12 * 2**20).fill_(1)  # 48 MB
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(mode: str) -> int:
    """Of taking 48 MB again and again, in a process of its own."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, mode], capture_output=True, text=True, check=False)
    if done.returncode == 3:
        pytest.skip("this C library has no mallopt")
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.slow
def test_memory_once_taken_is_not_paid_for_again() -> None:
    assert page_faults("keep") < 20 < page_faults("default")  # with pages of 2 MB 120 of them, with small ones 60,000
