"""The folder of a run, of either stage: what the run is, and its log. Only the main process writes here."""

import contextlib
import json
import logging
import pathlib
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pretrain.runtime import files
from pretrain.runtime.errors import UserError


def write_description(
    folder: pathlib.Path, config_yaml: str, command: Sequence[str], environment: Mapping[str, Any]
) -> None:
    """Write config.yaml and env.json, and add the command as one more line to command.txt: a line an attempt.

    Args:
        folder: of the run; it is made where it is missing.
        config_yaml: the resolved configuration.
        command: the words that the user typed.
        environment: versions, revision, seed and machine (pretrain/runtime/provenance.py); no environment variables.

    Raises:
        UserError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files.save_text(folder / "config.yaml", config_yaml)
        files.save_text(folder / "env.json", json.dumps(environment, indent=2) + "\n")
        with open(folder / "command.txt", "a") as lines:
            lines.write(shlex.join(command) + "\n")
    except OSError as error:
        raise UserError(f"output folder {folder}: cannot be written: {error.strerror or error}") from error


@contextlib.contextmanager
def logging_to(folder: pathlib.Path, logger: logging.Logger, *others: logging.Handler) -> Iterator[None]:
    """Send what is logged in the block to log.txt, and to `others` too."""
    handlers = [_LogFile(folder / "log.txt"), *others]
    handlers[0].setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    logger.setLevel(logging.INFO)
    for handler in handlers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()


class _LogFile(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (the base class's name)
        """Leave the line out: on a full disk the run stops over its metrics, with a message."""
