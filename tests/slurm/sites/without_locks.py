"""A command to which the kernel refuses file locks, as Lustre does without its mount option `flock`.

`python tests/slurm/sites/without_locks.py COMMAND...`: no file system that a container can mount refuses them, so a
seccomp filter does, for the command and all that it starts: fcntl's locks and flock end with ENOSYS.
"""

import ctypes
import errno
import os
import platform
import struct
import sys

_FCNTL, _FLOCK = {"x86_64": (72, 73), "aarch64": (25, 32)}[platform.machine()]  # numbers of system calls
_LOCKS = (5, 6, 7, 36, 37, 38)  # F_GETLK, F_SETLK, F_SETLKW, and those of open file descriptions
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06  # BPF: a word of the call, a jump over as many instructions, the end
_NUMBER, _SECOND_ARGUMENT = 0, 24  # where they are in struct seccomp_data
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | errno.ENOSYS
_SET_SECCOMP, _FILTER = 22, 2  # of prctl


def _instructions() -> list[tuple[int, int, int, int]]:
    """The filter: (operation, instructions to pass over where equal, where not, value)."""
    ends = [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _REFUSE)]
    kinds = [(_EQUAL, len(_LOCKS) - number, 0, kind) for number, kind in enumerate(_LOCKS)]
    return [
        (_LOAD, 0, 0, _NUMBER),
        (_EQUAL, 2 + len(_LOCKS) + 1, 0, _FLOCK),
        (_EQUAL, 0, 1 + len(_LOCKS), _FCNTL),
        (_LOAD, 0, 0, _SECOND_ARGUMENT),
        *kinds,
        *ends,
    ]


def refuse_locks() -> None:
    """From here on, for this process and its children. Needs root."""
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in _instructions())
    held = ctypes.create_string_buffer(code, len(code))
    program = ctypes.create_string_buffer(struct.pack("@HP", len(code) // 8, ctypes.addressof(held)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_SET_SECCOMP, _FILTER, ctypes.byref(program), 0, 0):
        raise OSError(ctypes.get_errno(), "the kernel takes no filter of system calls")


if __name__ == "__main__":
    refuse_locks()
    os.execvp(sys.argv[1], sys.argv[1:])
