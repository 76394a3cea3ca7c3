"""The error of the transfer stage that is a user's mistake and not a bug, and all faults of one input in one error."""

from collections.abc import Sequence

from pretrain.runtime.errors import UserError, listed_lines

SHOWN = 10  # a folder with thousands of missing files is still one readable message


class TransferError(UserError):
    """A user's mistake in the transfer stage: the message says what is wrong, where, and what would be right."""


class UnreadableImageError(TransferError):
    """An image file that is missing or cannot be decoded."""


def refuse(faults: Sequence[str], advice: str = "") -> None:
    """Raise one error for all faults of an input, if there are any.

    Args:
        faults: each names its place and what is wrong there.
        advice: the last line of the message, what a user can do about them all.

    Raises:
        TransferError: lists the first SHOWN faults, and counts the others.
    """
    if not faults:
        return
    if len(faults) == 1:
        raise TransferError(f"{faults[0]} ({advice})" if advice else faults[0])
    lines = [f"{len(faults)} faults:", *listed_lines(faults, SHOWN), *([advice] if advice else [])]
    raise TransferError("\n".join(lines))
