"""The checks of `make test-gpu` in their order, the most valuable first, and the seconds that each may take."""

from typing import NamedTuple


class Check(NamedTuple):
    """A check: a module with a function `check(case)`."""

    name: str
    seconds: int  # on a GPU, at most
    module: str
    shows: str


_HERE = "tests.gpu.checks"
CHECKS = (
    Check("machine", 40, f"{_HERE}.machine", "the card, the versions, what is not installed"),
    Check("marked", 80, f"{_HERE}.marked", "the tests marked `gpu`"),
    Check("step", 30, f"{_HERE}.step", "a step on the device is Algorithm 1's on a CPU, in every form and precision"),
    Check("views", 20, f"{_HERE}.views", "the augmentation on the device is the CPU's, to one grey value"),
    Check("waits", 20, f"{_HERE}.waits", "no step makes the host wait for the device"),
    Check("half", 20, f"{_HERE}.half", "bf16 and fp16 train; an overflow is skipped, an endless one told"),
    Check("resume", 40, f"{_HERE}.resume", "a stopped pretraining resumes bit by bit, in every precision"),
    Check("vectors", 50, f"{_HERE}.vectors", "detectors give what Detectron2 gave, and train as on a CPU"),
    Check("recipes", 110, f"{_HERE}.recipes", "every fine-tuning recipe trains at its size, fp32 and AMP, each engine"),
    Check("memory", 30, f"{_HERE}.memory", "every pretraining recipe's step at its size, and its memory"),
    Check("speed", 100, f"{_HERE}.speed", "tools/benchmark.py: step, input, end to end"),
)
SECONDS = 540  # of all checks together: nine minutes
