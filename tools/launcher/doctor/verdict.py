"""The findings of what the small job told of the nodes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..cluster import logs
from ..cluster.resources import Resources
from .findings import OK, UNCHECKED, WARNING, WRONG, Finding

_SLOW = 5.0  # seconds until a file is seen elsewhere, above which it is told
_SHARED = "keep the checkout, its .venv and the run (--output, output_dir) in a folder that all nodes see"

Rank = dict[str, Any]


def judge(told: Sequence[Rank], asked: Resources, gpus: int, ending: str, log: Path, job: str) -> list[Finding]:
    """Return the findings of a job that has started.

    Args:
        told: what each rank told.
        asked: the request.
        gpus: that it asks for on each node.
        ending: how the job ended.
        log: the folder of its output.
    """
    if not told:
        return [_nothing_told(ending, log, job)]
    found = [_folder(told)]
    done = [rank for rank in told if rank.get("done")]
    if len(done) < asked.tasks:
        said = logs.last_line(log, job, 0)
        text = f"only {len(done)} of {asked.tasks} processes came to their end: {ending}{f': {said}' if said else ''}"
        found.append(Finding(WRONG, "processes", text))
    firsts = [rank for rank in told if rank["first"]]
    found += _lock([rank for rank in firsts if rank.get("lock")])
    pythons = [(rank["host"], rank["python"]) for rank in firsts if "python" in rank]
    if pythons:
        found += _python(pythons)
    if gpus and pythons:
        found += _gpus(pythons, gpus)
        found += _health([(rank["host"], rank["gpus"]) for rank in firsts if rank.get("gpus")])
    found += _reduced([rank["reduced"] for rank in done if "reduced" in rank], asked.tasks)
    return found


def _nothing_told(ending: str, log: Path, job: str) -> Finding:
    said = logs.last_line(log, job, 0)
    if said:
        return Finding(WRONG, "Python", f"the job ended before it could tell anything: {said} ({ending})", _SHARED)
    text = f"nodes do not see this folder, or what they write there is not seen here: nothing came back ({ending})"
    return Finding(WRONG, "shared folder", text, _SHARED)


def _folder(told: Sequence[Rank]) -> Finding:
    blind = sorted({rank["host"] for rank in told if rank["lag"] is None})
    if blind:
        return Finding(
            WRONG, "shared folder", f"{', '.join(blind)} did not see within a minute what was written here", _SHARED
        )
    there, back = max(rank["lag"] for rank in told), max(0.0, min(rank["seen"] - rank["time"] for rank in told))
    hosts = ", ".join(sorted({rank["host"] for rank in told}))
    text = f"{hosts} and this machine see what the other writes"
    if max(there, back) > _SLOW:
        return Finding(WARNING, "shared folder", f"{text}, but late: after {there:.0f} s there, {back:.0f} s here")
    return Finding(OK, "shared folder", text)


def _lock(firsts: Sequence[Rank]) -> list[Finding]:
    free = sorted({rank["host"] for rank in firsts if rank["lock"] == "free"})
    refused = sorted({f"{rank['host']}: {rank['lock']}" for rank in firsts if rank["lock"] not in ("held", "free")})
    if free:
        text = f"a lock held here is not felt on {', '.join(free)}: locks hold within one machine only"
        return [Finding(WARNING, "lock", text, "give the commands of one run on one login node")]
    if refused:
        return [Finding(WARNING, "lock", f"nodes have none: {'; '.join(refused)}")]
    return [Finding(OK, "lock", "a lock held here is felt on the nodes")] if firsts else []


def _python(pythons: Sequence[tuple[str, Rank]]) -> list[Finding]:
    faults = [f"{host}: {fault}" for host, python in pythons for fault in python["faults"]]
    if faults:
        cure = 'setup: ["module load ..."], or an environment that the nodes see'
        return [Finding(WRONG, "Python", "; ".join(faults), cure)]
    kinds = {
        f"Python {python['python']}, torch {python['torch']}, torchvision {python['torchvision']}"
        for _, python in pythons
    }
    seconds = max(python["seconds"] for _, python in pythons)
    text = f"{'; '.join(sorted(kinds))}; our code is importable, all in {seconds:.0f} s"
    if len(kinds) > 1:
        return [Finding(WARNING, "Python", f"nodes differ: {text}")]
    return [Finding(OK, "Python", text)]


def _gpus(pythons: Sequence[tuple[str, Rank]], gpus: int) -> list[Finding]:
    few = [(host, python) for host, python in pythons if len(python.get("gpus", ())) < gpus]
    if not few:
        names = sorted({name for _, python in pythons for name in python["gpus"]})
        return [Finding(OK, "CUDA", f"torch sees {gpus} GPUs on each node: {', '.join(names)}")]
    host, python = few[0]
    text = f"{host}: {gpus} GPUs were asked for, torch sees {len(python.get('gpus', ()))}"
    if python.get("torch") and not python.get("cuda"):
        return [Finding(WRONG, "CUDA", f"{text}: its torch {python['torch']} has no CUDA", "install torch with CUDA")]
    if python.get("why"):
        text += f": {python['why']}"
    return [Finding(WRONG, "CUDA", text, "a partition whose nodes have NVIDIA's driver, or `device cpu` and no --gpus")]


def _health(nodes: Sequence[tuple[str, Rank]]) -> list[Finding]:
    found = []
    for host, gpus in nodes:
        if gpus["unchecked"]:
            found.append(Finding(UNCHECKED, "GPU health", f"{host}: {gpus['unchecked']}"))
        if gpus["faults"]:
            cure = f"sbatch: {{exclude: {host}}}, and tell the administrators"
            found.append(Finding(WRONG, "GPU health", f"{host}: {'; '.join(gpus['faults'])}", cure))
        if gpus["warnings"]:
            found.append(Finding(WARNING, "GPU health", f"{host}: {'; '.join(gpus['warnings'])}"))
    well = [host for host, gpus in nodes if not any(gpus.values())]
    return [*found, *([Finding(OK, "GPU health", f"nothing wrong on {', '.join(well)}")] if well else [])]


def _reduced(results: Sequence[Rank], tasks: int) -> list[Finding]:
    faults = {result["fault"]: result["hosts"] for result in results if result["fault"]}
    if faults:
        hosts = sorted({host for named in faults.values() for host in named})
        cure = f"sbatch: {{exclude: '{','.join(hosts)}'}}; " if hosts else ""
        cure += 'setup: ["export NCCL_DEBUG=INFO"] says what NCCL waits for'
        return [Finding(WRONG, "all-reduce", "; ".join(faults), cure)]
    if results:
        return [Finding(OK, "all-reduce", f"among {tasks} processes, {results[0]['told']}")]
    return []
