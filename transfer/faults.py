"""All faults of one input in one message."""

from collections.abc import Sequence

from transfer.errors import TransferError

SHOWN = 10  # a folder with thousands of missing files is still one readable message


def refuse(faults: Sequence[str], advice: str = "") -> None:
    """Raise TransferError listing `faults` (each names its path and what is wrong), if there are any.

    `advice`, where given, is the last line: what a user can do about them all.
    """
    if not faults:
        return
    if len(faults) == 1:
        raise TransferError(f"{faults[0]} ({advice})" if advice else faults[0])
    lines = [f"{len(faults)} faults:", *(f"  {fault}" for fault in faults[:SHOWN])]
    if len(faults) > SHOWN:
        lines.append(f"  ... and {len(faults) - SHOWN} more")
    raise TransferError("\n".join([*lines, advice] if advice else lines))
