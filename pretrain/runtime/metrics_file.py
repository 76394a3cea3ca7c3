"""The file metrics.json: one JSON object a line, each step's row once, also after a resume; and TensorBoard's."""

import contextlib
import json
import math
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pretrain.runtime import distributed, files
from pretrain.runtime.errors import UserError

NAME = "metrics.json"

Follow = Callable[[int, Mapping[str, float]], None]  # takes a step and its numbers, on the main process


class MetricsFile:
    """A file that rows of numbers are appended to. Every rank makes one; only rank 0 touches the disk.

    Args:
        path: of the file; it begins empty, or with the rows of an earlier attempt that `keep` accepts.
        keep: says of an earlier row whether it stays; the resumed run writes the others again. A last line that was
            cut short by a kill never stays.
        step_key: the key of a row that says where in the run it was made, such as "iteration".
        board_from: step from which on TensorBoard hides what an earlier attempt wrote; None: no TensorBoard. It also
            stays away where it is not installed.
        follow: gets the numbers of every row that is written, too.

    Raises:
        UserError: the disk does not take the file (full, read-only).
    """

    def __init__(
        self,
        path: Path,
        keep: Callable[[Mapping[str, Any]], bool],
        *,
        step_key: str,
        board_from: int | None = None,
        follow: Follow | None = None,
    ) -> None:
        self.path, self.step_key, self.follow = path, step_key, follow
        self._writes = distributed.is_main()
        distributed.on_main(lambda: _cut(path, keep))
        self._board = _tensorboard(path.parent, board_from) if self._writes and board_from is not None else None

    def write(self, row: Mapping[str, Any]) -> None:
        """Append one row; it is in the file when this returns. A number that is not finite becomes null.

        Raises:
            UserError: the disk does not take it.
        """
        if not self._writes:
            return
        row = {key: None if isinstance(x, float) and not math.isfinite(x) else x for key, x in row.items()}
        try:
            with files.naming_full_disk(self.path), open(self.path, "a") as file:
                file.write(json.dumps(row) + "\n")
            numbers = {
                key: value
                for key, value in row.items()
                if isinstance(value, int | float) and key not in (self.step_key, "epoch", "steps")
            }
            if self.follow is not None:
                self.follow(row[self.step_key], numbers)
            if self._board is not None:
                for key, value in numbers.items():
                    self._board.add_scalar(key, value, row[self.step_key])
                with files.naming_full_disk(self.path.parent):
                    self._board.flush()
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written: {error.strerror or error}") from error

    def close(self) -> None:
        """End TensorBoard's file."""
        if self._board is not None:
            with contextlib.suppress(OSError):  # a full disk has had its message
                self._board.close()


def has_row(path: Path, wanted: Callable[[Mapping[str, Any]], bool]) -> bool:
    """Return whether the file holds a row that `wanted` accepts; False where there is no file."""
    return any(_stays(line, wanted) for line in path.read_text().splitlines()) if path.exists() else False


def _cut(path: Path, keep: Callable[[Mapping[str, Any]], bool]) -> None:
    lines = path.read_text().splitlines() if path.exists() else []
    files.save_text(path, "".join(f"{line}\n" for line in lines if _stays(line, keep)))


def _stays(line: str, keep: Callable[[Mapping[str, Any]], bool]) -> bool:
    try:
        return keep(json.loads(line))
    except ValueError:  # the last line of a killed run may be cut short
        return False


def _tensorboard(folder: Path, first: int) -> Any:
    """Return TensorBoard's writer into `folder`, earlier events from step `first` on hidden; None: not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of tensorboard's own imports
            from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(folder, purge_step=first)
