"""The host of a process: its user's home folder, the cores that it may use and shares, and the C library's memory."""

import ctypes
import difflib
import os
import statistics
import sys
import time
from pathlib import Path

from pretrain.runtime.errors import UserError

CONFIGS = Path(__file__).resolve().parents[2] / "configs"

# Parameters of glibc's mallopt (malloc.h).
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX, M_ARENA_MAX = -1, -2, -4, -8

# How often a thread of libgomp looks for work before it sleeps. By itself it looks 300,000 times, some 15 ms.
SPINNING, SPINS, SPINS_BUSY = "GOMP_SPINCOUNT", 20_000, 0


def expand_home(path: str) -> str:
    """Return a path with the home folder for a leading `~` or `~user`, as a shell writes it.

    A shell does so only at the start of a word: not in a YAML file, within quotes, or after `--flag=`. A file that is
    really named `~...` stays what it is.

    Raises:
        UserError: there is no such user, and no such file.
    """
    if not path.startswith("~"):
        return path
    expanded = os.path.expanduser(path)
    if expanded.startswith("~") and not os.path.lexists(path):
        raise UserError(
            f"{path}: {path.split('/')[0]} is the home folder of no user here; write the path out, or ./{path} for a "
            "name that begins with ~"
        )
    return expanded


def user_path(text: str) -> Path:
    """Return the path that a user has written, with the home folder for `~`: the type of a tool's flags."""
    if "://" in text:  # a Path would lose a slash
        raise UserError(f"{text}: a URL is not read or written here; download the file and give its path")
    return Path(expand_home(text))


def config_path(text: str, stage: str) -> Path:
    """Return the YAML file that a user names: a path, or a bare name of configs/<stage>/ such as voc_r50_c4_24k.

    Args:
        stage: "pretrain" or "transfer".

    Raises:
        UserError: a bare name of no file here and of none there; the message has those near it.
    """
    path = user_path(text)
    if path.exists() or "/" in text:
        return path  # the reader says what is wrong with it
    names = sorted(file.name for file in (CONFIGS / stage).glob("*.yaml"))
    name = path.name if path.suffix in (".yaml", ".yml") else f"{path.name}.yaml"
    if name not in names:
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        hint = f" (near: {', '.join(near)})" if near else ""
        raise UserError(f"{text}: no such file, and no configuration of configs/{stage}/ has this name{hint}")
    return CONFIGS / stage / name


def usable_cores(groups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int:
    """Return the number of cores that this process may use, 1 or more: by its affinity and by its CPU quota.

    A container's quota (docker --cpus 2, a limit of Kubernetes) leaves all cores visible, and more threads than it has
    cores wait for each other. A quota of 1.5 cores counts as one.

    Args:
        groups, own: where Linux shows control groups, and those of this process.
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:  # macOS
        cores = os.cpu_count() or 1
    return max(1, min([cores, *(int(quota) for quota in _quotas(groups, own))]))


def limit_spinning(status: Path = Path("/proc/stat")) -> None:
    """Let OpenMP's threads spin for a millisecond at most before they sleep, and not at all on a busy machine.

    A thread that spins keeps its core from the one it waits for, where other programs have the rest: training then
    takes up to ten times as long. Spinning this long costs nothing on a quiet machine; sleeping at once costs 10 to 20
    % there (docs/measurements/speed.md). Results do not depend on it, and what the user has set stays. It must be
    called before torch is imported.

    Args:
        status: where Linux says how many threads want to run.
    """
    if SPINNING in os.environ or "OMP_WAIT_POLICY" in os.environ:
        return
    # Several ranks start at the same time, and would take each other for other programs.
    busy = "RANK" not in os.environ and _running(status) + usable_cores() > (os.cpu_count() or 1)
    os.environ[SPINNING] = str(SPINS_BUSY if busy else SPINS)


def _running(status: Path) -> float:
    """Return how many threads beside this one want to run, the median of five looks; 0 where it is not known."""
    looks = []
    for _ in range(5):
        try:
            lines = status.read_text().splitlines()
        except OSError:
            return 0
        looks += [int(line.split()[1]) - 1 for line in lines if line.startswith("procs_running ")]
        time.sleep(0.01)
    return statistics.median(looks) if looks else 0


def _quotas(groups: Path, own: Path) -> list[float]:
    """Return the CPU quotas over this process, in cores: of its control group (version 2 or 1) and of all above."""
    quotas = []
    for folder in _group_folders(groups, own):
        try:
            if (folder / "cpu.max").exists():
                quota, period = (folder / "cpu.max").read_text().split()
            else:
                quota, period = ((folder / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
            if quota not in ("max", "-1"):
                quotas.append(int(quota) / int(period))
        except (OSError, ValueError, ZeroDivisionError):  # no limit here, or not this version's files
            continue
    return quotas


def _group_folders(groups: Path, own: Path) -> list[Path]:
    """Return the folders of the control groups that may hold a CPU quota, from the process's own up."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return []
    folders: list[Path] = []
    for line in lines:  # ID:CONTROLLERS:/PATH, without controllers in version 2
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        for top in (groups / controllers, groups / "cpu") if controllers else (groups,):
            below = top / path.lstrip("/")
            folders += [below, *(parent for parent in below.parents if parent == top or top in parent.parents)]
    return folders


def keep_freed_memory() -> bool:
    """Make glibc keep freed memory for this process's life; return whether it does.

    By default it hands every freed block above 32 MB, which is any activation at 224 pixels, back to the system; the
    next step then pays for zeroed pages, one fault each. The process keeps its peak of memory. It must be called before
    the memory is taken. Other C libraries have no such call, and nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = {
        M_ARENA_MAX: 1,  # the arenas of other threads cannot hold such blocks
        M_MMAP_MAX: 0,
        M_TRIM_THRESHOLD: -1,  # never
        M_TOP_PAD: 64 * 2**20,
    }
    accepted = [mallopt(ctypes.c_int(name), ctypes.c_int(value)) == 1 for name, value in settings.items()]
    return all(accepted)
