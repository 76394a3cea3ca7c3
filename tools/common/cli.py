"""The frame of every tool: a user's mistake is one message on standard error and exit code 2, an outage 75."""

import logging
import os
import sys
from collections.abc import Callable

from pretrain.runtime.errors import StorageError, UserError
from pretrain.runtime.signals import EXIT_CODE

BAD_INPUT = 2  # argparse's own code for a bad command line


def run(main: Callable[[], None]) -> None:
    """Run `main`; turn a user's mistake into a message and exit code 2. A bug keeps its traceback."""
    try:
        main()
    except UserError as error:
        if is_main():  # under torchrun every rank meets the same fault: say it once
            print(f"error: {_message(error)}", file=sys.stderr)
        sys.exit(EXIT_CODE if isinstance(error, StorageError) else BAD_INPUT)
    except OSError as error:
        if error.filename is None:  # not about a file that the user could have named
            raise
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        sys.exit(BAD_INPUT)
    except KeyboardInterrupt:
        sys.exit(130)


def is_main() -> bool:
    """Return whether this process is rank 0, or the only one. True until a launcher says otherwise."""
    return os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) == "0"


def log_to_terminal() -> None:
    """Show log messages with the time; on ranks above 0 only warnings."""
    level = logging.INFO if is_main() else logging.WARNING
    logging.basicConfig(level=level, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")


def _message(error: Exception) -> str:
    # An error raised in a data-loader worker arrives with the worker's traceback before its message.
    return str(error).rsplit(f"{type(error).__name__}: ", maxsplit=1)[-1].strip()
