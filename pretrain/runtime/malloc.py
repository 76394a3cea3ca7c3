"""The C library's memory: what a step frees, the next one takes again."""

import ctypes
import sys

# Parameters of glibc's mallopt (malloc.h).
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX, M_ARENA_MAX = -1, -2, -4, -8


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
