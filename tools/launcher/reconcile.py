"""The submission of the stages of a run that are neither finished nor pending nor running, each once."""

import contextlib
import shlex
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from pretrain.runtime.errors import listed

from . import jobs, sharing
from .cluster import resources, slurm
from .cluster.errors import LaunchError, QueueLimitError
from .job_states import adopt_lost_jobs, known_states, live_states
from .record import FILE, FOLDER, Entry, Record, Submission, load_record
from .stages import snapshot, verify
from .stages.stage import Stage


@dataclass(frozen=True)
class Reconciled:
    """The names of the stages that were found in each state, or submitted."""

    finished: tuple[str, ...]
    live: tuple[str, ...]  # pending or running
    submitted: tuple[str, ...]
    waiting: tuple[str, ...]  # for others; --cluster local and debug submit a stage when what it needs has finished
    limited: tuple[str, ...] = ()  # those among the waiting for which the queue has no room, or for what they need


@dataclass(frozen=True)
class Round:
    """The jobs that one command may submit, however often it calls `submit_ready`.

    Attributes:
        most: number of jobs, by stage, that it may have had in the end; one that fails is not submitted over and over.
        cancels: number of times that the run had been cancelled before; after one more nothing is submitted.
    """

    most: Mapping[str, int]
    cancels: int

    def submits(self, record: Record, stage: Stage) -> bool:
        """Return whether the stage may have one more job. One that another shell has added since is left to that."""
        return record.cancels == self.cancels and len(record.entries[stage.name].submissions) < self.most.get(
            stage.name, 0
        )


def enter_stages(folder: Path, stages: Sequence[Stage], cluster: str) -> list[str]:
    """Enter the stages into the run's record, a new one or one that is there. The run's lock must be held.

    Returns a warning for each running job that asked for other resources.

    Each is entered with a copy of its config: it is submitted and verified with that, also where the file is edited
    before its turn comes.

    Raises:
        LaunchError: the run is on another cluster, or a stage of it is live, or finished, with other settings, or
            waits in the queue with other resources.
    """
    here = str(Path.cwd())
    try:
        record = load_record(folder)
    except LaunchError:
        if (folder / FOLDER / FILE).exists():
            raise
        record = Record(folder, cluster, here)
    adopt_lost_jobs(record)
    live = live_states(record)
    faults, warnings = _other_requests(record, stages, live)
    if record.cluster != cluster and live:
        faults.append(f"--cluster {cluster}: jobs of this run are on --cluster {record.cluster}; cancel them first")
    if record.cwd != here and record.entries:
        faults.append(f"this run was begun in {record.cwd}, which its paths are relative to: give the command there")
    for stage in stages:
        entry = record.entries.get(stage.name)
        other = entry and _difference(entry, stage, folder)
        if other and entry and entry.job in live:
            faults.append(f"{stage.name}: its job {entry.job} has {other}: cancel it first")
        elif other and Path(stage.result).exists():
            faults += _change_faults(stage, other)
    if faults:
        raise LaunchError("\n".join(faults))
    record.cluster = cluster
    before = record.entries
    # In the order of the stages, each after those that it needs. A stage that is no longer among them is dropped once
    # its job has ended.
    record.entries = {stage.name: before.get(stage.name) or Entry(stage) for stage in stages}
    for stage in stages:
        copy = _config_copy(stage, folder)
        record.entries[stage.name].stage = stage.with_config(copy) if copy else stage
    record.entries |= {
        name: entry for name, entry in before.items() if entry.job in live and name not in record.entries
    }
    record.save()
    return warnings


def begin_round(folder: Path) -> Round:
    """Find jobs whose ids were lost, cancel those that can never start, forget cancellations. The lock must be held."""
    record = load_record(folder)
    adopt_lost_jobs(record)
    for entry in record.entries.values():
        entry.cancelled = False
    record.save()
    known = known_states(record)
    never_satisfiable = _never_satisfiable(record, known)
    slurm.cancel(never_satisfiable)
    live = {job for job, state in known.items() if state.live} - never_satisfiable
    most = {name: len(entry.submissions) + (entry.job not in live) for name, entry in record.entries.items()}
    return Round(most, record.cancels)


def _never_satisfiable(record: Record, known: Mapping[str, slurm.State]) -> set[str]:
    """Return the jobs that wait for one that has failed, or for another of these.

    SLURM takes them out of the queue (DependencyNeverSatisfied), but in its own time; until then they would pass for
    pending ones.
    """
    lost, never_satisfiable = set(), set()
    for name, entry in record.entries.items():  # each after those that it needs
        state = known.get(entry.job or "")
        if entry.job is None or state is None:
            continue
        if not state.live:
            lost |= {name} if state.name != "COMPLETED" else set()
        elif state.name == "PENDING" and state.reason.startswith("Dependency") and lost & set(entry.stage.after):
            lost.add(name)
            never_satisfiable.add(entry.job)
    return never_satisfiable


def submit_ready(folder: Path, allowed: Round, known_good: Collection[str] = ()) -> Reconciled:
    """Submit every stage of the record that can be and is neither finished nor live. The run's lock must be held.

    On this machine, only as many as fit beside those that are live.

    Args:
        known_good: stages that have been found finished before, and are not verified again.

    Raises:
        LaunchError: a result is there and is not the stage's; the cluster refuses a job.
    """
    record = load_record(folder)
    adopt_lost_jobs(record)  # of this command's last try, which SLURM may not have answered
    live_jobs = live_states(record)
    live = {name for name, entry in record.entries.items() if entry.job in live_jobs}
    stages = [entry.stage for entry in record.entries.values()]
    done = _finished(record, live, known_good)
    todo = [stage for stage in stages if stage.name not in done | live and allowed.submits(record, stage)]
    if record.cluster != "slurm":
        ready = [stage for stage in todo if set(stage.after) <= done]
        todo = sharing.next_stages(
            ready, [stage for stage in stages if stage.name in live], sharing.local_limit(record)
        )
    submitted = _submit(record, todo, done, live) if todo else []
    waiting = [stage.name for stage in stages if stage.name not in done | live | set(submitted)]
    limited = [stage.name for stage in todo if record.entries[stage.name].limit]
    return Reconciled(tuple(sorted(done)), tuple(sorted(live)), tuple(submitted), tuple(waiting), tuple(limited))


def _difference(entry: Entry, stage: Stage, folder: Path) -> str | None:
    """Return the difference of a stage's newest job from `stage`: its words, or the content of its config."""
    if not entry.submissions:
        return None
    given = entry.submissions[-1].arguments
    if given != stage.arguments:
        one, other = (" ".join(words) for words in (given, stage.arguments))
        return f"other settings ({one} / now: {other})"
    copy = _config_copy(stage, folder)
    if (entry.submissions[-1].config or None) != (copy and str(copy.resolve())):
        return f"another content of {stage.config}"
    return None


def _other_requests(
    record: Record, stages: Sequence[Stage], live: Mapping[str, slurm.State]
) -> tuple[list[str], list[str]]:
    """Return faults for jobs that wait and asked for other resources than their stages, warnings for those that run."""
    others: dict[tuple[bool, str], list[Entry]] = {}
    for stage in stages:
        entry = record.entries.get(stage.name)
        state = live.get(entry.job or "") if entry else None
        if entry and state:
            changes = resources.changes(entry.stage.resources, stage.resources)
            if changes:
                waits = state.name == "PENDING" or state.held
                others.setdefault((waits, changes), []).append(entry)
    faults, warnings = [], []
    for (waits, change), entries in others.items():
        names = listed((f"{entry.stage.name} (job {entry.job})" for entry in entries), shown=2)
        if waits:
            known = dict.fromkeys((entry.job or "").split("_")[0] for entry in entries)
            faults.append(f"{names}: waits, and asked for {change}: cancel it first: scancel {' '.join(known)}")
        else:
            warnings.append(f"{names}: runs, and asked for {change}, which counts from its next submission")
    return faults, warnings


def _config_copy(stage: Stage, folder: Path) -> Path | None:
    """Return the copy of a stage's config in the run's folder, made now where there is none; None without a config."""
    return snapshot.config(Path(stage.config), folder / FOLDER / "configs") if stage.config else None


def _change_faults(stage: Stage, other: str) -> list[str]:
    """Return why a finished stage cannot be given with other settings; pretraining allows some changes.

    A report of other runs is simply made anew.
    """
    if stage.kind == "report":
        return []
    if stage.kind != "pretrain":
        return [f"{stage.name}: has finished with {other}: name another output"]
    try:
        verify.verify(stage)
    except LaunchError as error:
        return [str(error)]
    return []


def _finished(record: Record, live: Collection[str], known_good: Collection[str]) -> set[str]:
    """Return the names of the stages with a good result whose needs have finished too. A bad result is an error."""
    done: set[str] = set()
    for name, entry in record.entries.items():
        if name in live or not set(entry.stage.after) <= done:
            continue
        if name in known_good or (_is_of_its_job(record, entry) and verify.verify(entry.stage)):
            done.add(name)
    return done


def _is_of_its_job(record: Record, entry: Entry) -> bool:
    """Return whether the newest job can have made what is there: a report is replaced by one with other settings."""
    if entry.stage.kind != "report" or not entry.submissions:
        return True
    logged = any(line["job"] == entry.job and line.get("outcome") == "finished" for line in record.events(entry.stage))
    return logged and entry.submissions[-1].arguments == entry.stage.arguments


def _submit(record: Record, todo: Sequence[Stage], done: set[str], live: set[str]) -> list[str]:
    """Submit stages until the queue takes no more; note its limit in the entries of the others. Returns the names.

    An array that is refused is halved: alone it may be more than the queue ever takes.
    """
    code = snapshot.code(record.home / "code").resolve()
    groups, submitted = _groups(todo, record.cluster), list[str]()
    limits = {stage.name: record.entries[stage.name].limit for stage in todo}  # of the last time
    left: dict[str, str] = {}
    full = ""
    while groups:
        group = groups.pop(0)
        needs = {name for stage in group for name in stage.after if name in record.entries}
        missing = needs - done - live - set(submitted)
        limit = full or next((left[name] for name in missing if name in left), "")
        limit = limit or _limit_of_others(record, group, live, submitted, limits)
        if not missing and not limit:
            try:
                _submit_group(record, group, code, done)
            except QueueLimitError as error:
                if len(group) > 1:
                    groups[:0] = [group[: len(group) // 2], group[len(group) // 2 :]]
                    limits |= {stage.name: str(error) for stage in group}
                    continue
                limit = full = str(error)
            else:
                submitted += [stage.name for stage in group]
                continue
        left |= {stage.name: limit for stage in group}
    for stage in todo:
        record.entries[stage.name].limit = left.get(stage.name, "")
    record.save()
    return submitted


def _limit_of_others(
    record: Record, group: Sequence[Stage], live: set[str], submitted: Sequence[str], limits: Mapping[str, str]
) -> str:
    """Return the limit by which a part of an array waits for another part: at most `parallel` of the whole run."""
    first = group[0]
    parts = [name for name in [*live, *submitted] if record.entries[name].stage.array == first.array]
    return limits[first.name] if first.array and first.parallel and parts else ""


def _submit_group(record: Record, group: Sequence[Stage], code: Path, done: set[str]) -> None:
    """Submit a stage, or those of an array, and note their jobs.

    Raises:
        QueueLimitError: the queue has no room for them; nothing is noted.
        LaunchError: the cluster refuses them, or does not answer.
    """
    words, configs = [], []
    for stage in group:
        copy = _config_copy(stage, record.folder)
        words.append(jobs.command(stage, code, copy and copy.resolve()))
        configs.append(str(copy.resolve()) if copy else None)
    token, now = f"{slurm.PREFIX}{uuid.uuid4().hex}", datetime.now(timezone.utc).isoformat(timespec="seconds")
    entries = [record.entries[stage.name] for stage in group]
    for entry, config_copy in zip(entries, configs, strict=True):
        entry.submissions.append(Submission(token, None, now, str(code), config_copy, entry.stage.arguments))
    record.save()
    try:
        ids = _hand_over(record, group, code, words, token, done)
    except QueueLimitError:
        for entry in entries:
            entry.submissions.pop()
        record.save()
        raise
    except LaunchError:
        with contextlib.suppress(LaunchError):  # SLURM does not answer; the next command looks again
            adopt_lost_jobs(record)  # or cancels them: SLURM may have taken the job and been slow to say so
        raise
    for entry, job in zip(entries, ids, strict=True):
        entry.submissions[-1].job = job
    record.save()


def _hand_over(
    record: Record, group: Sequence[Stage], code: Path, words: Sequence[tuple[str, ...]], token: str, done: set[str]
) -> list[str]:
    if record.cluster == "slurm":
        names = {name for stage in group for name in stage.after} - done  # live, or just submitted
        needs = [entry.job for name, entry in record.entries.items() if name in names and entry.job]
        return jobs.submit_slurm(group, record, code, words, needs, token)
    (stage,), (line,) = group, words
    if record.cluster == "local":
        return [jobs.submit_local(stage, record, code, line, sharing.threads(stage, sharing.local_limit(record)))]
    return [jobs.run_here(stage, record, code, line)]


def _groups(stages: Iterable[Stage], cluster: str) -> list[list[Stage]]:
    """Group the stages that are submitted together: on SLURM those of one array, which share resources and needs."""
    groups: dict[str, list[Stage]] = {}
    for stage in stages:
        groups.setdefault((cluster == "slurm" and stage.array) or stage.name, []).append(stage)
    return list(groups.values())


def preview(folder: Path, stages: Sequence[Stage], cluster: str) -> Iterable[tuple[list[Stage], list[str], str | None]]:
    """Return, for a dry run, each group of stages, their command lines, and the sbatch file. Writes nothing."""
    record = Record(folder, cluster, str(Path.cwd()))
    code = record.home.resolve() / "code" / "SNAPSHOT"
    for group in _groups(stages, cluster):
        needs = sorted({f"JOB_OF_{name}" for stage in group for name in stage.after})
        text = jobs.sbatch_file(group, record, code, needs) if cluster == "slurm" else None
        commands = [jobs.command(stage, code, Path(stage.config) if stage.config else None) for stage in group]
        yield group, [shlex.join(words) for words in commands], text
