"""What every tool does around its work: a user's mistake is one message on standard error and exit code 2."""

import os
import sys
from collections.abc import Callable

from pretrain.errors import PretrainError
from transfer.errors import TransferError

BAD_INPUT = 2  # argparse's own code for a bad command line


def run(main: Callable[[], None]) -> None:
    """Call `main`; turn a user's mistake into a message and exit code 2. A bug keeps its traceback."""
    try:
        main()
    except (PretrainError, TransferError) as error:
        if os.environ.get("RANK", "0") == "0":  # under torchrun every rank meets the same fault: say it once
            print(f"error: {_message(error)}", file=sys.stderr)
        sys.exit(BAD_INPUT)
    except KeyboardInterrupt:
        sys.exit(130)


def _message(error: Exception) -> str:
    # An error raised in a data-loader worker arrives with the worker's traceback before its message.
    return str(error).rsplit(f"{type(error).__name__}: ", maxsplit=1)[-1].strip()
