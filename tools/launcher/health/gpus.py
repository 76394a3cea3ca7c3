"""The GPUs of this node as nvidia-smi lists them: their number, memory errors, free memory."""

import contextlib
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

_PATIENCE = 60  # seconds for an answer of nvidia-smi; one that hangs waits for a GPU that does not answer
_LEAST_FREE, _EXPECTED_FREE = 0.1, 0.5  # of a GPU's memory: below the first a job fails, below the second it may
_LISTED = re.compile(r"GPU (?P<index>\d+): (?P<name>.*) \(UUID: (?P<uuid>[^)]+)\)")
_SLICE = re.compile(r"\s+MIG \S+\s+Device")
_COLUMNS = "index,uuid,memory.free,memory.total,ecc.errors.uncorrected.volatile.total"
_BROKEN = re.compile(r"lost|unknown error|ERR!", re.IGNORECASE)
_XID = re.compile(r"NVRM: Xid \(PCI:(?P<bus>[^)]+)\): (?P<code>\d+)")
# Of the hardware: a double bit error, a failed repair, NVLink, off the bus, an ECC error, a dead processor of its own.
_XIDS_OF_HARDWARE = {48, 64, 74, 79, 92, 94, 95, 119, 120, 140}


@dataclass(frozen=True)
class Gpus:
    """The GPUs of a node.

    Attributes:
        faults: what makes a job fail or hang there.
        warnings: what may.
        unchecked: why nothing is known of them.
    """

    faults: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    unchecked: str = ""


class _NoAnswer(Exception):  # noqa: N818 (what it says becomes a fault of the node)
    """A command that failed, with what it said."""


def look_at_gpus(asked: int, visible: str | None) -> Gpus:
    """Return the state of this node's GPUs.

    Args:
        asked: the number that the job asks for on each node.
        visible: CUDA_VISIBLE_DEVICES, which tells this job's GPUs from those of others.
    """
    if shutil.which("nvidia-smi") is None:
        return Gpus(unchecked="there is no nvidia-smi")
    try:
        lines = _ask("nvidia-smi", "-L")
        listed = [match["uuid"] for line in lines if (match := _LISTED.match(line))]
        own = _own(listed, visible)
        faults, warnings = _states(own)
    except _NoAnswer as fault:
        return Gpus(faults=(str(fault),))
    if (count := _count(lines)) < asked:
        faults.insert(0, f"{asked} GPUs were asked for, nvidia-smi lists {count}")
    faults += [line.strip() for line in lines if "Unable to determine" in line]
    return Gpus((*faults, *_repairs(own)), (*warnings, *_xids()))


def _count(lines: Sequence[str]) -> int:
    """Return the devices that programs can use: a GPU, or each part of one that is divided (MIG)."""
    count, divided = 0, False
    for line in lines:
        if _LISTED.match(line):
            count, divided = count + 1, False
        elif _SLICE.match(line):
            count, divided = count + divided, True
    return count


def _own(listed: Sequence[str], visible: str | None) -> set[str]:
    """Return the UUIDs of this job's GPUs; where the node shows it only these, they are all."""
    named = [word.strip() for word in (visible or "").split(",") if word.strip()]
    if not named or len(named) >= len(listed):
        return set(listed)
    if all(word.isdigit() and int(word) < len(listed) for word in named):
        return {listed[int(word)] for word in named}
    return {uuid for uuid in listed if any(uuid.startswith(word) for word in named)} or set(listed)


def _states(own: set[str]) -> tuple[list[str], list[str]]:
    """Return the faults and the warnings of the table of GPUs."""
    faults: list[str] = []
    warnings: list[str] = []
    for index, uuid, free, total, errors in _table(f"--query-gpu={_COLUMNS}"):
        if uuid not in own:
            continue
        broken = [value for value in (free, total, errors) if _BROKEN.search(value)]
        if broken:
            faults.append(f"GPU {index} does not answer: nvidia-smi shows {broken[0]!r}")
        if errors.isdigit() and int(errors):
            faults.append(f"GPU {index} has had {errors} uncorrected memory errors (ECC) and wants a reset")
        if free.isdigit() and total.isdigit() and int(total):
            part = int(free) / int(total)
            told = f"GPU {index} has only {free} of {total} MiB of memory free: `nvidia-smi` there shows who has it"
            if part < _EXPECTED_FREE:
                (faults if part < _LEAST_FREE else warnings).append(told)
    return faults, warnings


def _repairs(own: set[str]) -> list[str]:
    """Return the faults of memory repairs: retired pages, or since Ampere remapped rows. Not every GPU knows them."""
    faults = []
    for query, columns in (
        ("--query-gpu", "uuid,retired_pages.pending"),
        ("--query-remapped-rows", "gpu_uuid,remapped_rows.pending,remapped_rows.failure"),
    ):
        with contextlib.suppress(_NoAnswer):  # an nvidia-smi of other years than this question
            for uuid, pending, *failure in _table(f"{query}={columns}"):
                if uuid in own and _says_yes(*failure):
                    faults.append(f"{uuid}: its bad memory could not be repaired, it must be replaced")
                elif uuid in own and _says_yes(pending):
                    faults.append(f"{uuid}: a repair of its memory waits for a reset")
    return faults


def _xids() -> list[str]:
    """Return a warning for hardware faults in the kernel's messages, where we may read them."""
    try:
        lines = _ask("dmesg")
    except _NoAnswer:
        return []
    found = {(match["bus"], int(match["code"])): None for line in lines for match in _XID.finditer(line)}
    return [f"the kernel noted Xid {code} of the GPU at {bus}" for bus, code in found if code in _XIDS_OF_HARDWARE]


def _says_yes(*values: str) -> bool:
    return any(value.lower() in ("yes", "1") for value in values)


def _table(query: str) -> list[list[str]]:
    lines = _ask("nvidia-smi", query, "--format=csv,noheader,nounits")
    wanted = query.count(",") + 1
    rows = [[value.strip() for value in line.split(",")] for line in lines]
    return [row for row in rows if len(row) == wanted]


def _ask(*command: str) -> list[str]:
    """Return the lines that a command prints. Raises _NoAnswer where it fails."""
    name = " ".join(command[:2])
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_PATIENCE)
    except subprocess.TimeoutExpired:
        raise _NoAnswer(f"`{name}` does not answer within {_PATIENCE} s") from None
    except OSError as error:
        raise _NoAnswer(f"`{name}` does not start: {error.strerror}") from error
    if done.returncode:
        said = " ".join((done.stdout + done.stderr).split())[:300]
        raise _NoAnswer(f"`{name}` ends with {done.returncode}: {said or 'no message'}")
    return done.stdout.splitlines()
