"""tools/launcher/record_v1.py: a run that an earlier version began can be read and resumed."""

import json
from pathlib import Path
from typing import Any

import pytest

from launcher.cluster.errors import LaunchError
from launcher.record import load_record
from launcher.stages.options import ConvertOptions, FinetuneOptions, PretrainOptions, ReportOptions
from transfer.run.options import RunOptions

OLD: dict[str, tuple[str | None, list[str]]] = {
    "pretrain": ("demo.yaml", ["data.root", "some images", "output_dir", "out/pretrain", "--auto-resume"]),
    "convert": (None, ["out/last.pth.tar", "out/backbone.pth", "--to", "detectron2", "--encoder", "key"]),
    "finetune": (
        "voc.yaml",
        [
            *("--init", "out/backbone.pth", "--seed", "5", "--dataset-root", "scenes", "--data-rule", "zero_area=drop"),
            *("SOLVER.STEPS", "[15]", "OUTPUT_DIR", "out/voc/moco", "--trial", "1"),
        ],
    ),
    "report": (None, ["out/voc", "out/coco", "--output", "out/report", "--overwrite", "--title", "A title"]),
}
NEW = {
    "pretrain": PretrainOptions("demo.yaml", (("data.root", "some images"), ("output_dir", "out/pretrain"))),
    "convert": ConvertOptions("out/last.pth.tar", "out/backbone.pth", "key"),
    "finetune": FinetuneOptions(
        RunOptions(
            Path("voc.yaml"),
            ("SOLVER.STEPS", "[15]", "OUTPUT_DIR", "out/voc/moco"),
            dataset_root=Path("scenes"),
            data_rules={"zero_area": "drop"},
            init="out/backbone.pth",
            seed=5,
            trial=1,
        )
    ),
    "report": ReportOptions(("out/voc", "out/coco"), "out/report", title="A title"),
}


def write_record(folder: Path, kind: str, words: list[str]) -> None:
    """Write record.json as version 1 did, with one stage and one job."""
    stage: dict[str, Any] = {
        **{"name": kind, "kind": kind, "tool": f"{kind}.py", "config": OLD[kind][0], "arguments": words},
        **{"folder": "out", "result": "out/x", "resources": {"nodes": 2}},
        **{"after": ["before"], "array": None, "parallel": None},
    }
    job = {
        **{"token": "moco-a", "job": "12", "time": "2026-01-01T00:00:00+00:00", "code": "/code"},
        **{"config": None, "arguments": words},
    }
    stages = {kind: {"stage": stage, "submissions": [job], "cancelled": False}}
    content = {"version": 1, "cluster": "slurm", "cwd": "/", "cancels": 1, "stages": stages}
    (folder / "launch").mkdir()
    (folder / "launch/record.json").write_text(json.dumps(content))


@pytest.mark.parametrize("kind", OLD)
def test_a_record_of_version_1_has_typed_options(tmp_path: Path, kind: str) -> None:
    write_record(tmp_path, kind, OLD[kind][1])
    record = load_record(tmp_path)
    entry = record.entries[kind]
    assert entry.stage.options == NEW[kind]
    assert (entry.stage.after, entry.stage.resources.nodes, entry.job) == (("before",), 2, "12")
    assert entry.submissions[-1].arguments == entry.stage.arguments  # no other settings: the job may be resumed
    record.save()
    assert json.loads((tmp_path / "launch/record.json").read_text())["version"] == 2
    assert load_record(tmp_path) == record


@pytest.mark.parametrize("kind", ["pretrain", "finetune", "report"])
def test_words_of_no_tool_are_not_a_record(tmp_path: Path, kind: str) -> None:
    write_record(tmp_path, kind, ["--nonsense"])
    with pytest.raises(LaunchError, match=r"record\.json: not a record"):
        load_record(tmp_path)
