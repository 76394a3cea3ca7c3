"""The folder of a run: what it is (config.yaml, command.txt, env.json) and what it did (log.txt, metrics.json).

Only the main process writes here.
"""

import contextlib
import importlib.metadata
import json
import logging
import pathlib
import platform
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from pretrain.runtime import distributed, files, provenance
from pretrain.runtime.errors import UserError

FILES = ("config.yaml", "command.txt", "env.json", "log.txt", "metrics.json", files.LAST)
INDEX = "images"  # folder of the index of the run's images, which every process maps into memory
PACKAGES = ("moco-transfer", "torch", "torchvision", "numpy", "pillow", "fvcore")


def refuse_existing_run(folder: pathlib.Path) -> None:
    """Raise UserError where the folder already holds a run, or is a file."""
    refuse_file(folder)
    checkpoints = sorted(path.name for path in folder.glob("checkpoint_*.pth.tar"))
    held = checkpoints + [name for name in FILES if (folder / name).exists()]
    if held:
        way_out = "continue it with --resume" if checkpoints else "it has no checkpoint to resume, so remove it"
        raise UserError(
            f"output_dir: {folder}: already holds a run ({', '.join(held[:3])}); {way_out} or choose another"
        )


def refuse_file(folder: pathlib.Path) -> None:
    """Raise UserError where the folder is a file."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"output_dir: {folder}: is not a folder")


def write_start(folder: pathlib.Path, config_yaml: str, command: Sequence[str], environment: Mapping[str, Any]) -> None:
    """Write what this start of the run is: config.yaml, env.json, and the command as one more line of command.txt."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with files.whole_file(folder / "config.yaml") as file:
            file.write(config_yaml.encode())
        with files.whole_file(folder / "env.json") as file:
            file.write(json.dumps(environment, indent=2).encode() + b"\n")
        with open(folder / "command.txt", "a") as lines:
            lines.write(shlex.join(command) + "\n")
    except OSError as error:
        raise UserError(f"output_dir: {folder}: cannot be written: {error.strerror or error}") from error


def describe_environment(device: torch.device, seed: int) -> dict[str, Any]:
    """What a later reader needs to know of the machine; none of its environment variables."""
    return {
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "git": provenance.revision(),
        "seed": seed,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "cpu",
        "processes": distributed.world_size(),
        "threads": torch.get_num_threads(),
    }


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


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
