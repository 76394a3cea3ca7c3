"""The tables of tools/benchmark.py, run as a user runs it: the step, the input, and both together."""

import functools
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from tests.conftest import ROOT
from tests.gpu.case import Case, Failed, LeftOut

LARGE = ("--device", "cuda", "--repeats", "2")
TINY = ("--size", "32", "--batch", "4", "--repeats", "1")
SMALL_STEP = ("--arch", "resnet18", "--queue", "64", "--steps", "1")
# The goals beside which they are read stand in docs/measurements/gpu.md; nothing here fails for being slow.
ON_A_GPU = {
    "step, bf16, N 32": ("step", *LARGE, "--precision", "bf16", "--steps", "10"),
    "step, bf16, N 256": ("step", *LARGE, "--precision", "bf16", "--batch", "256", "--steps", "5"),
    "end to end, bf16, N 64": ("end-to-end", *LARGE, "--precision", "bf16", "--batch", "64", "--steps", "4"),
    "input": ("input", "--number", "128", "--repeats", "2"),
    "step, fp32, N 32": ("step", *LARGE, "--steps", "5"),
    "step, bf16 both, N 128": (
        *("step", *LARGE, "--precision", "bf16", "--published-precision", "bf16", "--batch", "128", "--steps", "5"),
    ),
}
ON_A_CPU = {
    "step": ("step", *TINY, *SMALL_STEP),
    "input": ("input", *TINY, "--number", "4"),
    "end to end": ("end-to-end", *TINY, *SMALL_STEP, "--workers", "0"),
}


def check(case: Case) -> None:
    """Run each; its tables are among what was printed, its numbers in the log."""
    for name, words in (ON_A_GPU if case.on_gpu else ON_A_CPU).items():
        case.do(name, functools.partial(_measure, case, name, words))


def _measure(case: Case, name: str, words: Sequence[str]) -> Mapping[str, Any]:
    file = case.folder / f"{name}.json"
    command = [sys.executable, str(ROOT / "tools" / "benchmark.py"), *words, "--json", str(file)]
    print("$", *command, flush=True)
    try:
        done = subprocess.run(command, cwd=ROOT, check=False, timeout=max(case.seconds_left - 1, 1))
    except subprocess.TimeoutExpired as error:
        raise LeftOut(f"{name}: no time was left, it was cut after {error.timeout:.0f} s") from error
    if done.returncode:
        raise Failed(f"exit code {done.returncode}")
    (result,) = json.loads(file.read_text())["results"]
    rates = {one: round(of["images_per_second"], 1) for one, of in result["contenders"].items()}
    said = f"{name}: " + ", ".join(f"{one} {rate}/s" for one, rate in rates.items())
    return {"said": said, "command": " ".join(["python", "tools/benchmark.py", *words]), "measured": result}
