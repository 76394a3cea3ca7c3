"""The scores that a model card shows: those of one backbone and of the starts that it was compared with."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transfer.errors import TransferError
from transfer.report.content import SCHEMA, describe_scores
from transfer.report.run_folders import read_runs
from transfer.report.tables import build_tables

ScoreTable = dict[str, Any]  # "title", "shown" (columns) and "rows", as in report.json


def read_score_tables(paths: Sequence[Path], metadata: Mapping[str, Any]) -> list[ScoreTable]:
    """Return the tables of scores in which a backbone has a row; that row has "is_this" True.

    Args:
        paths: files that tools/report.py wrote (report.json), and run folders or folders that hold some.
        metadata: of the backbone, as transfer.conversion.convert makes it.

    Raises:
        TransferError: a path is neither, or in none of its tables is this backbone among the rows.
    """
    folders = [path for path in paths if path.is_dir()]
    tables = [table for path in paths if not path.is_dir() for table in _read_report(path)]
    tables += [describe_scores(table) for table in build_tables(read_runs(folders))] if folders else []
    for row in (row for table in tables for row in table["rows"]):
        row["is_this"] = _is_made_from(row["init"]["metadata"], metadata)
    found = [table for table in tables if any(row["is_this"] for row in table["rows"])]
    if paths and not found:
        starts = dict.fromkeys(row["label"] for table in tables for row in table["rows"])
        raise TransferError(
            f"--results {' '.join(map(str, paths))}: no run began from this backbone, of {metadata['source']}, SHA-256 "
            f"{metadata['source_sha256'][:12]} (they began from: {', '.join(starts) or 'nothing'}); name the results "
            "of this one, or leave --results out"
        )
    return found


def _read_report(path: Path) -> list[ScoreTable]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TransferError(f"--results {path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise TransferError(f"--results {path}: is not JSON: {error}") from error
    if not isinstance(content, dict) or "tables" not in content:
        raise TransferError(
            f"--results {path}: not a report of tools/report.py; name its report.json, or the folders of runs"
        )
    if content.get("schema") != SCHEMA:
        raise TransferError(
            f"--results {path}: a report of another version (schema {content.get('schema')}, this one has {SCHEMA}): "
            "write it again with tools/report.py, or name the folders of its runs"
        )
    return content["tables"]


def _is_made_from(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> bool:
    """Return whether two converted files hold the same network of the same source."""
    keys = ("source_sha256", "prefix", "arch")
    return theirs.get("source_sha256") is not None and all(theirs.get(key) == ours.get(key) for key in keys)
