"""The code and the configs that a job runs, copied beside it: editing the checkout changes no job that waits."""

import hashlib
import shutil
import tempfile
from pathlib import Path

import yaml

from pretrain.runtime import files, provenance
from transfer.config.detectron2_defaults import read_yaml

PARTS = ("pretrain", "transfer", "tools", "configs")
_LEFT_OUT = shutil.ignore_patterns("__pycache__", ".*", "*.pyc")


def code(folder: Path) -> Path:
    """Copy this code, with its revision, to `folder`/<digest of its content>, once; return the copy."""
    ours = sorted(path for part in PARTS for path in (provenance.ROOT / part).rglob("*") if _is_ours(path))
    digest = hashlib.sha256((provenance.revision() or "").encode())
    for path in ours:
        digest.update(f"\0{path.relative_to(provenance.ROOT)}\0".encode() + path.read_bytes())
    copy = folder / digest.hexdigest()[:16]
    if not copy.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=".", dir=folder))
        with files.naming_full_disk(copy):
            for part in PARTS:
                shutil.copytree(provenance.ROOT / part, unfinished / part, ignore=_LEFT_OUT)
            (unfinished / provenance.NOTE).write_text(f"{provenance.revision() or ''}\n")
        unfinished.chmod(0o755)
        unfinished.rename(copy)
    return copy


def config(path: Path, folder: Path) -> Path:
    """Copy a YAML file, with all that its _BASE_ brings, under the same name into `folder`; return the copy.

    A file that is such a copy already is returned as it is.
    """
    if folder.resolve() in path.resolve().parents:
        return path
    text = f"# {path}, with its _BASE_\n{yaml.safe_dump(read_yaml(path), sort_keys=False)}"
    copy = folder / hashlib.sha256(text.encode()).hexdigest()[:16] / path.name
    if not copy.exists():
        copy.parent.mkdir(parents=True, exist_ok=True)
        files.save_text(copy, text)
    return copy


def _is_ours(path: Path) -> bool:
    inner = path.relative_to(provenance.ROOT).parts
    hidden = any(part.startswith(".") or part == "__pycache__" for part in inner)
    return path.is_file() and path.suffix != ".pyc" and not hidden
