"""The frame of every tool: a user's mistake is one message on standard error and exit code 2, an outage 75."""

import importlib.util
import io
import logging
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

ROOT = str(Path(__file__).resolve().parents[2])
if ROOT not in sys.path:  # a script's own folder is first there; pretrain/ and transfer/ lie above it
    sys.path.insert(1, ROOT)

MISSING = [name for name in ("numpy", "rich", "torch", "yaml") if importlib.util.find_spec(name) is None]
if MISSING:
    print(
        f"error: {', '.join(MISSING)}: not there for this Python, {sys.executable}. Is the environment activated? In a "
        "clone `make install` makes it, and .venv/bin/python is its Python (`source .venv/bin/activate`); elsewhere "
        "`pip install .` installs what is missing",
        file=sys.stderr,
    )
    sys.exit(2)

try:
    import pretrain.runtime  # noqa: F401  (nothing below it yet: this can only be its refusal of Windows)
except ImportError as refusal:
    print(f"error: {refusal}", file=sys.stderr)
    sys.exit(2)

from pretrain.runtime.errors import TRY_AGAIN, RanksError, StorageError, user_message
from pretrain.runtime.ranks import cores, environment

BAD_INPUT = 2  # argparse's own code for a bad command line
INTERRUPTED = 130
PIPE_CLOSED = 141  # as of a program that SIGPIPE ends


def run(main: Callable[[], None]) -> None:
    """Run `main`; turn a user's mistake into a message and exit code 2 (an outage: 75). A bug keeps its traceback.

    Of several processes each one's error reaches the user, and ends all of them.
    """
    cores.limit_spinning()  # before `main` imports torch
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files may hold what the terminal's encoding does not
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        main()
        sys.stdout.flush()
    except SystemExit as error:
        if error.code == BAD_INPUT:  # argparse has said why
            _end_all("", BAD_INPUT, error)
        raise
    except KeyboardInterrupt as error:
        _end_all("interrupted by SIGINT", INTERRUPTED, error)
        sys.exit(INTERRUPTED)
    except BrokenPipeError as error:  # `| head` has read enough
        _end_all("", PIPE_CLOSED, error)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter's end writes what is left
        sys.exit(PIPE_CLOSED)
    except Exception as error:
        message = user_message(error)
        if message is None:
            _end_all(traceback.format_exc(), 1, error, is_bug=True)
            raise
        code = TRY_AGAIN if isinstance(error, StorageError) else BAD_INPUT
        _end_all(message, code, error)
        of_ranks = error.__cause__ if isinstance(error.__cause__, RanksError) else None
        print(of_ranks or f"error: {message}", file=sys.stderr)
        sys.exit(code)


def is_main() -> bool:
    """Return whether this process is rank 0, or the only one. True until a launcher says otherwise."""
    return os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) == "0"


def log_to_terminal() -> None:
    """Show log messages with the time; on ranks above 0 only warnings."""
    level = logging.INFO if is_main() else logging.WARNING
    logging.basicConfig(level=level, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")


def _end_all(text: str, code: int, error: BaseException, is_bug: bool = False) -> None:
    """End all processes of the run, if there are others: does not return then."""
    try:
        world = environment.read_world(os.environ)
    except environment.LaunchFault:
        return
    if world is not None:
        from pretrain.runtime.ranks import first_errors  # imports torch, which most tools start without

        first_errors.end_with_failure(world, text, code, error, is_bug)
