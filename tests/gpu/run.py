"""The checks one after the other, each in a process of its own that is ended when its time is up."""

import contextlib
import importlib
import multiprocessing
import os
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.gpu import log
from tests.gpu.log import FAIL, LEFT_OUT, PASS
from tests.gpu.plan import Check

LOG, PRINTED = "log.jsonl", "output.txt"
SHOWN = 8  # parts of a check that are printed
LEAST = 2.0  # seconds with which a check is still begun
_PRELOADED = ["torch", "torchvision"]  # imported once for all checks


def run_checks(checks: Sequence[Check], device: str, output: Path, seconds: float) -> bool:
    """Run the checks and print a line for each.

    Args:
        checks: their seconds are shares of all of theirs together.
        device: `cuda` or `cpu`.
        output: an existing folder; gets LOG (tests/gpu/log.py) and PRINTED, what the processes printed.
        seconds: for all checks. Those after a check get what it leaves over.

    Returns:
        Whether none has failed.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    ends, planned = time.monotonic() + seconds, sum(check.seconds for check in checks)
    results: Counter[str] = Counter()
    for check in checks:
        begin = time.monotonic()
        budget = min(check.seconds * seconds / planned, ends - begin)
        if budget < LEAST:
            line = _summary([{"result": LEFT_OUT, "said": "no time was left"}], "")
        else:
            fault = _run_process(context, check, device, output, budget)
            line = _summary([one for one in log.lines(output / LOG) if one.get("check") == check.name], fault)
        results[line["result"]] += 1
        line |= {"seconds": round(time.monotonic() - begin, 1), "budget": round(budget, 1)}
        log.write_line(output / LOG, {"check": check.name, **line})
        times = f"{line['seconds']:4.0f} of {budget:.0f} s"
        print(f"{line['result']:8}  {check.name:8}  {times}  {line['said']}", flush=True)
    counts = ", ".join(f"{results[result]} {result}" for result in (PASS, FAIL, LEFT_OUT) if results[result])
    print(f"{len(checks)} checks: {counts}; all numbers: {output / LOG}; what they printed: {output / PRINTED}")
    return not results[FAIL]


def _summary(parts: Sequence[Mapping[str, Any]], fault: str) -> dict[str, Any]:
    """Return the result of a check and its words, given its parts and the fault of its process, if any."""
    counts = Counter(part["result"] for part in parts)
    result = FAIL if fault or counts[FAIL] else PASS if counts[PASS] else LEFT_OUT
    said = [fault] if fault else []
    if len(parts) > 1:
        said.append(", ".join(f"{counts[kind]} {kind}" for kind in (PASS, FAIL, LEFT_OUT) if counts[kind]))
    failed = [f"{part['part']}: {part['said']}" for part in parts if part["result"] == FAIL]
    said += [*failed[:SHOWN], *([f"and {len(failed) - SHOWN} more"] if len(failed) > SHOWN else [])]
    others = [part["said"] for part in parts if part["result"] != FAIL and "said" in part]
    said += [f"{text} ({count})" if count > 1 else text for text, count in Counter(others).items()]
    return {"result": result, "said": "; ".join(said) or "nothing to do here"}


def _run_process(context: Any, check: Check, device: str, output: Path, budget: float) -> str:
    """Run a check in a process of its own; return the fault of the process, "" where it ended well."""
    with tempfile.TemporaryDirectory(prefix="test_gpu_") as folder:
        process = context.Process(
            target=_in_process, args=(check, device, Path(folder), output, time.monotonic() + budget)
        )
        process.start()
        try:
            process.join(budget)
            late = process.is_alive()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # with all that it has started
            process.kill()
            process.join()
    if late:
        return f"it was ended when its {budget:.0f} s were up"
    return "" if process.exitcode == 0 else f"its process ended with code {process.exitcode}"


def _in_process(check: Check, device: str, folder: Path, output: Path, ends: float) -> None:
    from tests.gpu.case import Case

    os.setsid()
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    target = os.open(output / PRINTED, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for stream in (1, 2):
        os.dup2(target, stream)
    print(f"=== {check.name}", flush=True)
    try:
        importlib.import_module(check.module).check(Case(check.name, device, folder, output / LOG, ends))
    except Exception as error:
        traceback.print_exc()
        found = {"check": check.name, "part": "outside its parts", "result": FAIL, "said": log.words(error)}
        log.write_line(output / LOG, found)
    sys.stdout.flush()
