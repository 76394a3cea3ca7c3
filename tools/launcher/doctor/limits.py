"""A request against the limits of its partition, account and quality of service, and the GPUs that there are."""

import re
from collections.abc import Sequence

from ..cluster.errors import LaunchError
from ..cluster.resources import Resources
from . import site
from .findings import OK, UNCHECKED, WARNING, WRONG, Finding
from .request import Request


def check_partition(request: Request, known: dict[str, dict[str, str]]) -> tuple[str | None, list[Finding]]:
    """Return the name of a request's partition, None where there is no such, and what is wrong with it."""
    named = request.asked.partition
    if named is None:
        default = [name for name, pairs in known.items() if pairs.get("Default") == "YES"]
        if not default:
            cure = f"--partition NAME; there are {', '.join(known)}"
            return None, [Finding(WRONG, "partition", f"{request.named} names none, and there is no default", cure)]
        return default[0], [Finding(OK, "partition", f"{request.named}: {default[0]}, the default one")]
    unknown = [name for name in named.split(",") if name not in known]
    if unknown:
        cure = f"partition: NAME (--partition NAME); there are {', '.join(known)}"
        return None, [Finding(WRONG, "partition", f"{request.named}: there is no {', '.join(unknown)}", cure)]
    name = named.split(",")[0]  # of several that would do, the first
    state = known[name].get("State", "UP")
    if state != "UP":
        return name, [Finding(WRONG, "partition", f"{name} is {state}: jobs do not start there", "--partition NAME")]
    return name, []


def check_limits(request: Request, partition: dict[str, str]) -> list[Finding]:
    """Return what the partition's own limits say to a request."""
    asked, name = request.asked, partition["PartitionName"]
    found = list(_check_time(request, f"partition {name}", partition.get("MaxTime", "UNLIMITED")))
    for key, value in (("MaxNodes", asked.nodes or 1), ("TotalNodes", asked.nodes or 1)):
        most = partition.get(key, "UNLIMITED")
        if most.isdigit() and value > int(most):
            text = f"{request.named} asks for {value}, partition {name} gives at most {most}"
            found.append(Finding(WRONG, "nodes", text, f"nodes: {most} (--nodes {most})"))
            break
    for key, given, flag in (("AllowAccounts", asked.account, "account"), ("AllowQos", asked.qos, "qos")):
        allowed = partition.get(key, "ALL").split(",")
        if given and allowed != ["ALL"] and given not in allowed:
            text = f"partition {name} does not take {given} of {request.named}"
            found.append(
                Finding(WRONG, flag, text, f"{flag}: {allowed[0]} (--{flag} {allowed[0]}), or another partition")
            )
    return found or [Finding(OK, "limits", f"partition {name} allows the time and nodes of {request.named}")]


def _check_time(request: Request, whose: str, most: str) -> Sequence[Finding]:
    limit, asked = site.minutes(most), request.asked.minutes
    if limit is None or asked is None or asked <= limit:  # None: the partition's default
        return ()
    flag = _time(limit)
    text = f"{request.named} asks for {request.asked.time}, {whose} gives at most {flag}: the job would wait for ever"
    return [Finding(WRONG, "time limit", text, f'time: "{flag}" (--time {flag})')]


def _time(minutes: float) -> str:
    days, rest = divmod(int(minutes), 24 * 60)
    return f"{days}-{rest // 60:02}:{rest % 60:02}" if days else f"{rest // 60}:{rest % 60:02}"


def check_gpus(request: Request, partition: str, kinds: Sequence[site.Nodes]) -> list[Finding]:
    """Return whether the nodes of a partition have the GPUs that are asked for, by number and type."""
    count, kind = asked_gpus(request.asked)
    there = _described(kinds)
    if not count:
        if any(node.gpus for node in kinds):
            return [Finding(OK, "GPUs", f"{request.named} asks for none; nodes of {partition} have {there}")]
        return []
    needed = request.asked.nodes or 1
    text = f"{request.named} asks for {count}{f' {kind}' if kind else ''} on each node, {partition} has {there}"
    if not any(node.gpus for node in kinds):
        return [Finding(WRONG, "GPUs", text, "gpus: 0 (--gpus 0), or --partition NAME, one with GPUs")]
    types = sorted({name for node in kinds for name in node.gpus if name})
    if kind and not any(kind in node.gpus for node in kinds):
        cure = f"gpu_type: {types[0]} (--gpu-type {types[0]})" if types else "leave the type out: nodes name none"
        return [Finding(WRONG, "GPU type", text, cure)]
    fitting = [node for node in kinds if (node.gpus.get(kind, 0) if kind else sum(node.gpus.values())) >= count]
    if not fitting:
        most = max(node.gpus.get(kind, 0) if kind else sum(node.gpus.values()) for node in kinds)
        return [Finding(WRONG, "GPUs", text, f"gpus: {most} (--gpus {most})")]
    if sum(node.count for node in fitting) < needed:
        most = sum(node.count for node in fitting)
        return [Finding(WRONG, "GPUs", f"{text}, {most} nodes with so many", f"nodes: {most} (--nodes {most})")]
    if sum(node.count for node in fitting if node.up) < needed:
        return [Finding(WARNING, "GPUs", f"{text}; too few of these nodes are up now: the job would wait")]
    return [Finding(OK, "GPUs", text)]


def asked_gpus(asked: Resources) -> tuple[int, str]:
    """Return the GPUs that a request wants on each node, and their type ("": any)."""
    match = re.match(r"gpu(?::([^:,]*[^:,\d][^:,]*))?(?::(\d+))?", str((asked.sbatch or {}).get("gres", "")))
    if match:  # asked for in a site's own words
        return int(match[2] or 1), match[1] or ""
    return asked.gpus or 0, asked.gpu_type or ""


def _described(kinds: Sequence[site.Nodes]) -> str:
    counts: dict[str, int] = {}
    for node in kinds:
        told = " + ".join(f"{count} {kind}".strip() for kind, count in node.gpus.items()) or "none"
        counts[told] = counts.get(told, 0) + node.count
    return ", ".join(f"{told} (on {count} nodes)" for told, count in counts.items()) or "no nodes"


def check_account(requests: Sequence[Request], jobs: int) -> list[Finding]:
    """Return what this user's account and quality of service say to the requests.

    Args:
        jobs: that all of it will have.
    """
    try:
        enforced = site.enforced()
        rows, qualities, default = site.associations(), site.qualities(), site.default_account()
    except LaunchError as error:
        return [Finding(UNCHECKED, "accounts", f"there is no accounting ({str(error)[:160]})")]
    strict = WRONG if "associations" in enforced else WARNING
    accounts = sorted({row["account"] for row in rows})
    found: list[Finding] = []
    for request in requests:
        account = request.asked.account or default
        own = [row for row in rows if row["account"] == account]
        if not own and (request.asked.account or rows):
            cure = f"account: NAME (--account NAME); you have {', '.join(accounts) or 'none: ask for one'}"
            text = f"{request.named} is charged to {account or 'none'}, which is not yours"
            found.append(Finding(strict, "account", text, cure))
            continue
        for row in own[:1]:
            found += _check_row(request, row, qualities, jobs, bool(enforced & {"limits", "safe"}))
    found = list(dict.fromkeys(found))  # a limit of the number of jobs is the same for all requests
    if not enforced:
        text = f"this site refuses no job for its account; yours are {', '.join(accounts) or 'none'}"
        return [*found, Finding(OK, "accounts", text)]
    return found or [Finding(OK, "accounts", f"{', '.join(accounts) or 'none'}: no limit of them is in the way")]


def _check_row(
    request: Request, row: dict[str, str], qualities: dict[str, dict[str, str]], jobs: int, limited: bool
) -> list[Finding]:
    allowed = [name for name in row["qos"].split(",") if name]
    qos = request.asked.qos or row["defaultqos"] or (allowed[0] if len(allowed) == 1 else "")
    if request.asked.qos and request.asked.qos not in allowed:
        cure = f"qos: NAME (--qos NAME); you have {', '.join(allowed) or 'none'}"
        return [Finding(WRONG if limited else WARNING, "qos", f"{request.named} asks for {qos}, not yours", cure)]
    if not limited:
        return []
    quality = qualities.get(qos, {})
    account, other = f"account {row['account']}", f"qos {qos}"
    found = [
        *_check_time(request, account, row["maxwall"]),
        *_check_time(request, other, quality.get("maxwall", "")),
    ]
    asked = request.asked
    wanted = {"gres/gpu": asked_gpus(asked)[0] * (asked.nodes or 1), "node": asked.nodes or 1}
    wanted["cpu"] = asked.tasks * (asked.cpus or 1)
    names = {"gres/gpu": "gpus, nodes", "node": "nodes", "cpu": "cpus"}
    for whose, limits in (
        (account, row["maxtres"]),
        *((other, quality.get(column, "")) for column in ("maxtres", "maxtrespu", "grptres")),
    ):
        for name, most in site.amounts(limits).items():
            if wanted.get(name, 0) > most:
                text = f"{request.named} asks for {wanted[name]} {name}, {whose} gives at most {most}"
                found.append(Finding(WRONG, "limits", text, f"{names[name]}: less"))
    for whose, number in ((account, row["maxsubmit"]), (other, quality.get("maxsubmitpu", ""))):
        if number.isdigit() and jobs > int(number):
            text = f"{whose} takes {number} jobs at a time, all stages are {jobs}: the rest waits until there is room"
            found.append(Finding(WARNING, "jobs", text, "--wait submits them by itself"))
    return found
