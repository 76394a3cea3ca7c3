"""A child process that lacks what Linux has and macOS has not. The kernel stays Linux; the names are gone.

Libraries are imported before the names go: those of macOS know its own functions.
"""

import importlib
import os
import pathlib
import resource
import signal
import socket
import sys

LIBRARIES = (
    *("cv2", "detectron2", "fsspec", "fvcore.common.config", "hotcoco", "jinja2", "matplotlib.pyplot", "numpy"),
    *("multiprocessing.forkserver", "multiprocessing.popen_spawn_posix", "pycocotools.mask", "rich.progress", "scipy"),
    *("shapely", "simplejpeg", "submitit", "torch.distributed", "torch.profiler", "torch.utils.data", "torchvision"),
    *("torch.utils.tensorboard", "urllib.request", "yaml"),
)
# What Python's documentation says that macOS has not.
ONLY_LINUX: dict[object, tuple[str, ...]] = {
    os: (
        *("copy_file_range", "eventfd", "getrandom", "memfd_create", "pidfd_open", "posix_fadvise", "posix_fallocate"),
        *("sched_getaffinity", "sched_setaffinity", "setns", "splice", "unshare", "O_DIRECT", "O_PATH"),
        *("fdatasync", "getresuid", "getxattr", "listxattr", "setxattr", "pipe2"),
    ),
    signal: ("SIGPWR", "SIGRTMAX", "SIGRTMIN", "SIGSTKFLT", "sigtimedwait", "sigwaitinfo"),
    resource: ("prlimit", "RLIMIT_MSGQUEUE", "RLIMIT_NICE", "RLIMIT_RTPRIO", "RLIMIT_SIGPENDING"),
    socket: ("TCP_INFO", "SO_BINDTODEVICE", "SO_PEERCRED", "AF_NETLINK", "AF_PACKET", "SOCK_CLOEXEC"),
}


def become_macos() -> None:
    """Import the libraries, remove the names, and say that the system is macOS."""
    for name in LIBRARIES:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:  # an optional one
            continue
    for module, names in ONLY_LINUX.items():
        for name in names:
            if hasattr(module, name):
                delattr(module, name)
    sys.platform = "darwin"


def import_all(root: pathlib.Path) -> list[str]:
    """Import every module of the library and of the tools; return their names."""
    names = []
    for folder, base in (("pretrain", root), ("transfer", root), ("tools", root / "tools")):
        for path in sorted((root / folder).rglob("*.py")):
            parts = path.relative_to(base).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            if name and "detectron2" not in parts[-2:-1]:
                importlib.import_module(name)
                names.append(name)
    return names


def image_id(record: dict[str, int]) -> int:
    """Return what a loader worker is to send back of a record."""
    return record["image_id"]
