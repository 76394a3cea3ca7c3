"""The host of a process: its system, its cores, its user's folders, and the C library's memory."""

import contextlib
import ctypes
import difflib
import os
import stat
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pretrain.runtime.errors import UserError
from pretrain.runtime.ranks.cores import usable_cores as usable_cores  # the transfer stage sees no deeper folder

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
CONFIG_HELP = "a YAML file, or the name of one that tools/list_configs.py lists"

# The systems that are refused, each in one sentence.
NO_WINDOWS = (
    "moco-transfer runs on Linux and macOS and does not support Windows: work in WSL 2, which is a Linux on Windows"
)
NO_MPS = "MPS, the GPU of a Mac, is not supported: on macOS use cpu"

# Parameters of glibc's mallopt (malloc.h).
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX, M_ARENA_MAX = -1, -2, -4, -8


def refuse_windows() -> None:
    """Raise ImportError on Windows, which has neither the signals nor the file locks that runs are kept safe with."""
    if sys.platform == "win32":
        raise ImportError(NO_WINDOWS)


def private_folder() -> Path:
    """Return a folder of this machine that no other user can write to, the same for all processes of this user.

    Where its name is taken by somebody else it is a new one, which no other process looks into.
    """
    folder = Path(tempfile.gettempdir()) / f"moco-transfer-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    if stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o077:
        return folder
    return Path(tempfile.mkdtemp())


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


def config_names(stage: str) -> list[str]:
    """Return the names of the shipped configurations of a stage, such as voc_r50_c4_24k and ablations/queue_256."""
    folder = CONFIGS / stage
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))


def config_path(text: str, stage: str) -> Path:
    """Return the YAML file that a user names: a path, or the name of a shipped one, such as voc_r50_c4_24k.

    The path of a shipped one in a clone, configs/<stage>/voc_r50_c4_24k.yaml, is a name of it in any folder.

    Args:
        stage: "pretrain", "transfer" or "launch".

    Raises:
        UserError: a bare name of no file here and of none there; the message has those near it.
    """
    path = user_path(text)
    if path.exists():
        return path
    name = text.removeprefix(f"configs/{stage}/").removesuffix(".yaml")
    names = config_names(stage)
    if name in names:
        return CONFIGS / stage / f"{name}.yaml"
    if "/" in text:
        return path  # the reader says what is wrong with it
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"; near it: {', '.join(near)}" if near else ""
    raise UserError(
        f"{text}: there is no such file and no such configuration of {stage}{hint}. tools/list_configs.py lists all"
    )


@dataclass(frozen=True)
class ConfigOf:
    """The type of a tool's flag that names a configuration of a stage; a shell asks it for names."""

    stage: str

    def __call__(self, text: str) -> Path:
        return config_path(text, self.stage)

    def names(self) -> list[str]:
        return config_names(self.stage)


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
